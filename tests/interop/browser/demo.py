"""Test the server's page with headless Chromium.   usage: URL=ws://... SERVER_PID=N demo.py SERVER [SCREENSHOT.png]

The page connects to its server, shows echoes and plots round trips. Then the server is stopped, the page shows the close code,
and connects again when the server has started, with `--prefix` this time."""
import json, subprocess, sys

from chromium import Tab, main, restarted


class Page(Tab):
    def lines(self, kind):
        return f"[...document.querySelectorAll('#log .{kind}')].map((li) => li.firstChild.textContent)"

    def shows(self, name, kind, *texts):
        """Wait until these are the last lines of a kind, without their times."""
        self.wait(name, f"JSON.stringify({self.lines(kind)}.slice(-{len(texts)})) === {json.dumps(json.dumps(texts, separators=(',', ':'), ensure_ascii=False))}")


def run(chromium, address, server, screenshot):
    page = Page(chromium, f"http://{address}/")
    page.wait("the field has the focus", "document.readyState === 'complete' && document.activeElement.id === 'text'")
    page.wait("the page is connected", "document.querySelector('#status').textContent === ''")
    page.check("nothing is loaded from elsewhere", "performance.getEntriesByType('resource').length === 0")
    texts = ["Hello", "Gr\u00fc\u00dfe, \u03b3\u03b5\u03b9\u03ac", "<b>Markup</b> stays text"]
    for text in texts:
        page.type(text)
        page.shows(f"it shows the echo of {text}", "received", text)
    page.check("each echo has its time",
               "[...document.querySelectorAll('#log .received small')].filter((it) => /^[0-9.]+ ms$/.test(it.textContent)).length === 3")
    page.wait("it plots round trips", "trips.length > 20 && document.querySelector('.curve').getAttribute('d').split('L').length > 20")
    page.check("the summary has figures",
               "/^median [0-9.]+ ms, 99 % [0-9.]+ ms, [0-9]+ in all$/.test(document.querySelector('#summary').textContent)")
    if screenshot:
        page.wait("the plot is full", "trips.length === PROBES_MAX")
        page.evaluate("document.activeElement.blur()")
        page.screenshot(screenshot)
        page.evaluate("document.querySelector('#text').focus()")
    for element in ["send", "pause"]:
        page.press("Tab", 9)
        page.check(f"the keyboard reaches {element}", f"document.activeElement.id === {json.dumps(element)}")
    page.press("Enter", 13)
    page.wait("Enter pauses the probes", "isPaused && document.activeElement.textContent === 'Resume'")
    page.press("Enter", 13)
    page.evaluate("window.before = count")
    page.wait("and resumes them", "!isPaused && count > before + 2")
    page.check_looks()
    page.size(320, 560)
    page.check("a phone shows field and plot", "[...document.querySelectorAll('#send, #pause, .plot')].every((it) =>"
               " it.getBoundingClientRect().bottom <= innerHeight && it.getBoundingClientRect().height > 30)")
    page.size(900, 560)

    with restarted([server, "--addr", address, "--workers", "2", "--prefix", "Echo: "], [page]):
        page.shows("the log has the close code and reason", "event", "connected", "closed with 1001 (the server is shutting down)",
                   "connected")
        page.evaluate("document.querySelector('#text').focus()")
        page.type("again")
        page.shows("a prefixed echo belongs to its message", "received", "Echo: again")
        page.check("it has its time", "document.querySelector('#log .received:last-child small') !== null")
        page.evaluate("window.before = count")
        page.wait("round trips continue", "count > before + 2")

    # On another port: Chromium may have a spare connection to this one, which the end of the server has answered with 503.
    broadcast = subprocess.Popen([server, "--addr", "127.0.0.1:0", "--broadcast"], stdout=subprocess.PIPE, text=True)
    try:
        line = broadcast.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit("failed: the server does not start with --broadcast")
        page, other = (Page(chromium, f"http://{line.split()[2]}/") for _ in range(2))
        for tab in (page, other):
            tab.wait("the page is connected to a broadcast", "document.querySelector('#status').textContent === ''")
        other.evaluate("document.querySelector('#text').focus()")
        other.type("to everyone")
        for tab in (page, other):
            tab.shows("a broadcast reaches both pages", "received", "to everyone")
        other.wait("the probes of another page are ignored", "trips.length > 5 && trips.every((it) => it >= 0)")
    finally:
        broadcast.terminate()
    if broadcast.wait(20) != 0:
        sys.exit(f"failed: the server ended with {broadcast.returncode}")


main(run)

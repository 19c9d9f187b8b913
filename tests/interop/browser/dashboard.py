"""Test the dashboard example's page with headless Chromium.   usage: URL=ws://... SERVER_PID=N dashboard.py DASHBOARD [SCREENSHOT.png]

The page asks for the token, shows plots that move, keeps the token for a reload, and connects again after the server was
stopped and started. The token is in DASHBOARD_TOKEN."""
import http.server, os, threading

from chromium import Tab, main, restarted

TOKEN = os.environ["DASHBOARD_TOKEN"]
SHOWS_PLOTS = "samples.length > 1 && [...document.querySelectorAll('.curve:not(.second)')].every((it) => it.getAttribute('d').includes('L'))"


class ForeignPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def run(chromium, address, dashboard, screenshot):
    ada = Tab(chromium, f"http://{address}/")
    ada.wait("the page asks for the token", "document.readyState === 'complete' && document.activeElement.id === 'token'")
    ada.type("a-wrong-token-of-the-test")
    ada.wait("a wrong token is refused with a reason",
             "document.querySelector('#refusal').textContent === 'The token is missing or wrong.'")
    ada.type(TOKEN)  # in place of the wrong one, which is selected
    ada.wait("four plots are shown", SHOWS_PLOTS + " && document.querySelectorAll('section').length === 4")
    ada.wait("they have units", "/^\\d+ %$/.test(document.querySelector('section p').textContent)")
    ada.wait("they move", "samples.at(-1).number > 20")
    ada.call("Page.reload")
    ada.wait("a reload keeps the token and gets the history", SHOWS_PLOTS + " && samples.length >= 20")

    bob = Tab(chromium, f"http://{address}/#token={TOKEN}")
    bob.wait("a link with the token opens the plots at once", SHOWS_PLOTS)
    bob.check("the token is not in the address", f"location.href === 'http://{address}/'")
    if screenshot:
        bob.wait("the plots are full", "samples.length === hello.history")
        bob.screenshot(screenshot)
        bob.size(390, 760)
        bob.screenshot(screenshot.replace(".png", "-phone.png"))
    bob.check_looks(scrolls=True)
    if screenshot:
        bob.screenshot(screenshot.replace(".png", "-dark.png"))

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ForeignPage)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    eve = Tab(chromium, f"http://127.0.0.1:{web.server_port}/")
    eve.wait("a page of another origin has loaded", f"location.port === '{web.server_port}' && document.readyState === 'complete'")
    eve.evaluate(f"window.events = []; socket = new WebSocket('ws://{address}/samples?token={TOKEN}');"
                 "socket.onopen = () => events.push('open'); socket.onclose = () => events.push('close')")
    eve.wait("it is refused, even with the token", "events.length > 0")
    eve.check("its WebSocket did not open", "events.join() === 'close'")

    with restarted([dashboard, "--addr", address, "--workers", "2", "--interval", "0.1"], [ada, bob]):
        for tab in (ada, bob):
            tab.wait("the plots move again", SHOWS_PLOTS)


main(run)

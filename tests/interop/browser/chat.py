"""Test the chat example's page with headless Chromium.   usage: URL=ws://... SERVER_PID=N chat.py CHAT [SCREENSHOT.png]

Two tabs talk, one leaves, and the other is told. Then the server is stopped and started again, and the page must connect
again by itself. Chromium is driven with its DevTools protocol over a pipe: JSON messages that end with a zero byte, read
from descriptor 3 and written to descriptor 4."""
import base64, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, time, urllib.parse

SECONDS = 60
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
         "--no-proxy-server", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars", "--lang=en-GB", "--remote-debugging-pipe"]


class Chromium:
    def __init__(self):
        self.profile = tempfile.mkdtemp()
        self.log = open(os.path.join(self.profile, "chromium.log"), "w+")
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        shell = f'exec chromium "$@" 3<&{commands} 4>&{answers}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", *FLAGS, f"--user-data-dir={self.profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, pass_fds=[commands, answers])
        os.close(commands)
        os.close(answers)
        self.buffer, self.calls = b"", 0

    def call(self, method, session=None, **params):
        """Call a method of the protocol, and return its result. Events are dropped."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                part = os.read(self.answers, 1 << 20)
                if not part:
                    sys.exit("failed: chromium ended")
                self.buffer += part
            line, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("id") == self.calls:
                if "error" in answer:
                    sys.exit(f"failed: {method}: {answer['error']}")
                return answer["result"]

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.profile, ignore_errors=True)


class Tab:
    def __init__(self, chromium, url):
        self.chromium = chromium
        self.target = chromium.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = chromium.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        self.size(900, 560)
        self.call("Page.navigate", url=url)

    def call(self, method, **params):
        return self.chromium.call(method, self.session, **params)

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def wait(self, name, expression):
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                sys.exit(f"failed: {name}; the page says: {self.evaluate('document.body.innerText')!r}")
            time.sleep(0.05)
        print(f"ok: {name}", flush=True)

    def press(self, key, code):
        key = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text="\r" if code == 13 else "", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def type(self, text):
        """Type a line where the focus is, and press Enter."""
        self.call("Target.activateTarget", targetId=self.target)
        self.call("Input.insertText", text=text)
        self.press("Enter", 13)

    def enter(self, name):
        self.wait("the form has the focus", "document.readyState === 'complete' && document.activeElement.id === 'name'")
        self.type(name)

    def shows(self, name, last, count=None):
        """Wait for the last line of the log, without its time."""
        lines = "[...document.querySelectorAll('#log li')].map((li) => li.className === 'said'" \
                " || li.className === 'said own' ? li.querySelector('b').textContent + ': ' +" \
                " li.querySelector('span').textContent : li.textContent)"
        condition = f"(lines => lines.at(-1) === {json.dumps(last)})({lines})"
        if count is not None:
            condition += f" && document.querySelectorAll('#log li').length === {count}"
        self.wait(name, condition)

    def check(self, name, expression):
        if not self.evaluate(expression):
            sys.exit(f"failed: {name}: {expression}")
        print(f"ok: {name}", flush=True)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))


def restart(binary, address):
    """Stop the server, and start one with the same address. The first may still be listening."""
    os.kill(int(os.environ["SERVER_PID"]), signal.SIGTERM)
    yield
    deadline = time.monotonic() + SECONDS
    while True:
        server = subprocess.Popen([binary, "--addr", address, "--workers", "2"], stdout=subprocess.PIPE, text=True)
        if server.stdout.readline().startswith("listening on "):
            yield server
            return
        server.wait()
        if time.monotonic() > deadline:
            sys.exit("failed: the server does not start again")


def run(chromium, chat, screenshot):
    address = urllib.parse.urlsplit(os.environ["URL"]).netloc
    ada = Tab(chromium, f"http://{address}/")
    ada.enter("ada")
    ada.shows("ada has entered the lobby", "ada joined", 1)
    ada.check("the room is in the address", "location.pathname === '/lobby'")
    bob = Tab(chromium, f"http://{address}/lobby")
    bob.enter("ada")
    bob.wait("a taken name is refused with a reason", "document.querySelector('#refusal').textContent === 'This name is taken.'")
    bob.evaluate("document.querySelector('#name').select()")
    bob.type("bob")
    bob.shows("bob has entered with another name", "bob joined", 1)
    ada.shows("ada is told", "bob joined", 2)
    talk = [(ada, "ada", "Hi Bob! Do you get this?"),
            (bob, "bob", "Yes, at once. Which worker are you on?"),
            (ada, "ada", "No idea: topics reach the members on all workers."),
            (bob, "bob", "And a newcomer gets the last 50 messages, in order \u2713"),
            (ada, "ada", "<b>Markup</b> stays text, too.")]
    for speaker, name, text in talk:
        speaker.type(text)
        for tab, reader in [(ada, "ada"), (bob, "bob")]:
            tab.shows(f"{reader} reads: {text}", f"{name}: {text}")
    members = "document.querySelector('#members').textContent === '2 here: ada, bob'"
    ada.check("both are listed", members)
    if screenshot:
        ada.call("Target.activateTarget", targetId=ada.target)
        ada.evaluate("document.activeElement.blur()")
        ada.screenshot(screenshot)
        ada.evaluate("document.querySelector('#text').focus()")

    for width, height in [(320, 560), (900, 560)]:
        bob.size(width, height)
        bob.check(f"nothing is cut off at {width} px",
                  "document.documentElement.scrollWidth <= innerWidth && document.body.scrollHeight <= innerHeight")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = bob.evaluate(colour)
    bob.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    bob.check("dark mode has another background", f"{colour} !== {json.dumps(light)}")
    bob.call("Page.reload")
    bob.shows("a reload returns to the room by itself, with its history", "bob joined", 6)
    bob.check("the history is in order", "[...document.querySelectorAll('#log span')].map((it) => it.textContent).join() === "
              + json.dumps(",".join(text for _, _, text in talk)))
    ada.shows("ada is told of the reload", "bob joined", 9)

    steps = restart(chat, address)
    next(steps)
    for tab in (ada, bob):
        tab.wait("the page says that it has no connection",
                 "/Trying again in \\d+ s/.test(document.querySelector('#status').textContent)")
    server = next(steps)
    try:
        for tab in (ada, bob):
            tab.wait("the page connects again", f"document.querySelector('#status').textContent === '' && {members}")
        ada.type("Still there?")
        for tab in (ada, bob):
            tab.shows("they talk again", "ada: Still there?")
        chromium.call("Target.closeTarget", targetId=bob.target)
        ada.shows("one leaves, the other is told", "bob left")
        ada.check("ada is alone", "document.querySelector('#members').textContent === '1 here: ada'")
    finally:
        server.terminate()
    if server.wait(20) != 0:
        sys.exit(f"failed: the server ended with {server.returncode}")


chromium = Chromium()
try:
    run(chromium, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
finally:
    chromium.end()

"""Headless Chromium for the tests of the examples' pages.

It is driven with its DevTools protocol over a pipe: JSON messages that end with a zero byte, read from descriptor 3 and
written to descriptor 4."""
import base64, contextlib, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, time, urllib.parse

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
        self.hold(key, code)
        self.release(key, code)

    def hold(self, key, code):
        self.call("Input.dispatchKeyEvent", type="keyDown", text="\r" if code == 13 else "", key=key, code=key,
                  windowsVirtualKeyCode=code)

    def release(self, key, code):
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def type(self, text):
        """Type a line where the focus is, and press Enter."""
        self.call("Target.activateTarget", targetId=self.target)
        self.call("Input.insertText", text=text)
        self.press("Enter", 13)

    def check(self, name, expression):
        if not self.evaluate(expression):
            sys.exit(f"failed: {name}: {expression}")
        print(f"ok: {name}", flush=True)

    def check_looks(self, scrolls=False):
        """Check that nothing is cut off on a phone or a desktop, unless the page scrolls down, and that there is a dark mode,
        which then stays."""
        for width, height in [(320, 560), (900, 560)]:
            self.size(width, height)
            self.check(f"nothing is cut off at {width} px",
                       "document.documentElement.scrollWidth <= innerWidth"
                       + ("" if scrolls else " && document.body.scrollHeight <= innerHeight"))
        colour = "getComputedStyle(document.body).backgroundColor"
        light = self.evaluate(colour)
        self.dark()
        self.check("dark mode has another background", f"{colour} !== {json.dumps(light)}")

    def dark(self):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def screenshot(self, path):
        self.call("Target.activateTarget", targetId=self.target)
        data = self.call("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def restarted(command, tabs):
    """Stop the server, and start it again with `command` when each tab has said that it has no connection. The first may
    still be listening. The new one must end with 0 after the block."""
    os.kill(int(os.environ["SERVER_PID"]), signal.SIGTERM)
    for tab in tabs:
        tab.wait("the page says that it has no connection",
                 "/Trying again in \\d+ s/.test(document.querySelector('#status').textContent)")
    deadline = time.monotonic() + SECONDS
    while True:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if server.stdout.readline().startswith("listening on "):
            break
        server.wait()
        if time.monotonic() > deadline:
            sys.exit("failed: the server does not start again")
    try:
        for tab in tabs:
            tab.wait("the page connects again", "document.querySelector('#status').textContent === ''")
        yield
    finally:
        server.terminate()
    if server.wait(20) != 0:
        sys.exit(f"failed: the server ended with {server.returncode}")


def main(run):
    """Call run(chromium, address, binary, screenshot): `address` is that of the running server, `screenshot` a path or None."""
    chromium = Chromium()
    try:
        address = urllib.parse.urlsplit(os.environ["URL"]).netloc
        run(chromium, address, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    finally:
        chromium.end()

"""Test the echo server with headless Chromium.   usage: URL=ws://... SERVER_PID=N client.py

Serves page.html on loopback, opens it in Chromium and waits for the lines that the page posts: progress is printed,
`passed` or `failed: ...` ends the run, and `drain` sends SIGTERM to the server under test."""
import http.server, os, pathlib, queue, shutil, signal, subprocess, sys, tempfile, threading, time, urllib.parse

PAGE = pathlib.Path(__file__).with_name("page.html").read_bytes()
SECONDS = 60
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
         "--no-proxy-server", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
lines = queue.Queue()


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = urllib.parse.urlsplit(self.path).path == "/"
        self.reply(200 if found else 404, PAGE if found else b"")

    def do_POST(self):
        line = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.reply(200, b"")
        lines.put(line)

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def follow(chromium):
    """Print the page's lines, and return its result."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            if chromium.poll() is not None:
                return f"failed: chromium ended with status {chromium.returncode}"
            continue
        print(line, flush=True)
        if line == "drain":
            os.kill(int(os.environ["SERVER_PID"]), signal.SIGTERM)
        elif line == "passed" or line.startswith("failed"):
            return line
    return f"failed: the page did not end within {SECONDS} s"


web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=web.serve_forever, daemon=True).start()
page = f"http://127.0.0.1:{web.server_port}/?" + urllib.parse.urlencode({"url": os.environ["URL"]})
profile = tempfile.mkdtemp()
log = open(os.path.join(profile, "chromium.log"), "w+")
chromium = subprocess.Popen(["chromium", *FLAGS, f"--user-data-dir={profile}", page],
                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
try:
    result = follow(chromium)
finally:
    chromium.terminate()
    try:
        chromium.wait(10)
    except subprocess.TimeoutExpired:
        chromium.kill()
if result != "passed":
    log.seek(0)
    print("chromium's last output:", *map(str.rstrip, log.readlines()[-20:]), result, sep="\n", file=sys.stderr)
shutil.rmtree(profile, ignore_errors=True)
sys.exit(result != "passed")

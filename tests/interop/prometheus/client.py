"""Query the server's metrics through Prometheus.   usage: URL=ws://... ADMIN=IP:PORT client.py

Prometheus scrapes the server every second. Its API must return the counts of the traffic that this script makes."""
import contextlib, json, os, pathlib, socket, subprocess, sys, tempfile, time, urllib.error, urllib.parse, urllib.request

from websockets.sync.client import connect

SECONDS = 60
URL, ADMIN = os.environ["URL"], os.environ["ADMIN"]
CONNECTIONS, MESSAGES, TEXT = 5, 40, "x" * 100
CONFIG = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: ws-reactor
    static_configs: [{{targets: ["{ADMIN}"]}}]
"""


@contextlib.contextmanager
def prometheus():
    """Run Prometheus, and yield the address of its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "prometheus.yml")
        config.write_text(CONFIG)
        with open(os.path.join(folder, "log"), "w+") as log:
            process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address={address}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                yield address
            except SystemExit:
                log.seek(0)
                print(log.read()[-4000:], file=sys.stderr)
                raise
            finally:
                process.terminate()
                process.wait(20)


def api(address, path, **query):
    """The data of an answer of the API; None while Prometheus starts."""
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError):
        return None


def wait(name, condition):
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"failed: {name}")
        time.sleep(0.2)
    print(f"ok: {name}", flush=True)


def talk(stack):
    """Exchange messages on all connections, and close all but one, which `stack` closes."""
    clients = [stack.enter_context(connect(URL)) for _ in range(CONNECTIONS)]
    for client in clients:
        for _ in range(MESSAGES):
            client.send(TEXT)
            if client.recv() != TEXT:
                sys.exit("failed: an echo differs")
    for client in clients[1:]:
        client.close(1000)


def run(address, stack):
    def value(query):
        """The value of a query with one result."""
        data = api(address, "query", query=query)
        result = data["result"] if data else []
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def targets():
        data = api(address, "targets", state="active")
        return data["activeTargets"] if data else []

    wait("Prometheus accepts the text", lambda: [(it["health"], it["lastError"]) for it in targets()] == [("up", "")])
    # The first scrape has nothing to compare with, so that `rate` sees all of the traffic.
    wait("it has scraped before the traffic", lambda: value("sum(ws_reactor_messages_received_total)") == 0)
    talk(stack)
    all_messages = CONNECTIONS * MESSAGES
    for query, expected in [
        ("sum(ws_reactor_messages_received_total)", all_messages),
        ("sum(ws_reactor_bytes_sent_total)", all_messages * len(TEXT)),
        ("sum(ws_reactor_connections_open)", 1),
        ("sum(ws_reactor_connections_opened_total)", CONNECTIONS),
        ('sum(ws_reactor_close_codes_total{direction="received", code="1000"})', CONNECTIONS - 1),
        ("count(ws_reactor_connections_open)", 2),  # the workers
        ("sum(ws_reactor_handshake_failures_total)", 0),
    ]:
        wait(f"{query} is {expected}", lambda: value(query) == expected)
    quantile = "histogram_quantile(0.9, sum by (le) (rate(ws_reactor_turn_seconds_bucket[1m])))"
    wait(f"{quantile} is between 1 us and 1 s", lambda: 1e-6 < (value(quantile) or 0) < 1)
    for metric, kind in [("ws_reactor_messages_received", "counter"), ("ws_reactor_connections_open", "gauge"),
                         ("ws_reactor_turn_seconds", "histogram")]:
        wait(f"{metric} is a {kind}", lambda: [it["type"] for it in (api(address, "metadata", metric=metric) or {}).get(metric, [])] == [kind])


with prometheus() as address, contextlib.ExitStack() as stack:
    run(address, stack)

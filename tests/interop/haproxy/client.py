"""Test the echo server behind HAProxy with `option httpchk GET /healthz`, and with the PROXY protocol.

usage: URL=ws://... LOG=FILE PROXIED=IP:PORT PROXIED_FILE=PATH PROXIED_LOG=FILE client.py
URL is that of a server with --trust-proxy 127.0.0.1, which logs to LOG. PROXIED and PROXIED_FILE are the addresses of one with
--proxy-protocol, which logs to PROXIED_LOG."""
import csv, os, pathlib, socket, time, unittest

import proxy

LISTENERS = ["plain", "v1", "v2", "unix-v1", "unix-v2"]

haproxy = {}  # the addresses of its listeners
logs = {name: pathlib.Path(os.environ["LOG" if name == "plain" else "PROXIED_LOG"]) for name in LISTENERS}


class HAProxy(unittest.IsolatedAsyncioTestCase):
    def test_health(self):
        for name in LISTENERS:
            self.assertEqual(proxy.get(haproxy[name], "/healthz"), (200, b"ok\n"), name)

    async def test_echo(self):
        for name in LISTENERS:
            async with proxy.connect(haproxy[name]) as ws:
                for message in ["Hello, server!", "x" * 100_000, bytes(100_000)]:
                    await ws.send(message)
                    self.assertTrue(await ws.recv() == message, name)

    async def test_the_server_logs_the_address_of_the_client(self):
        for name in LISTENERS:
            async with proxy.connect(haproxy[name]) as ws:
                await ws.send("hi")
                await ws.recv()
                host, port = ws.local_address
                # X-Forwarded-For has no port.
                self.wait_for_line("connected from %s:%d" % (host, 0 if name == "plain" else port), name)

    def wait_for_line(self, part, name):
        deadline = time.monotonic() + 10
        while not any(line.endswith(part) for line in logs[name].read_text().splitlines()):
            self.assertLess(time.monotonic(), deadline, f"{name}: no line ends with {part!r}")
            time.sleep(0.05)

    # Without a PROXY header the connection is closed at once, and nothing is answered.
    def test_a_client_that_passes_the_proxy_by_gets_no_answer(self):
        host, port = os.environ["PROXIED"].split(":")
        with socket.create_connection((host, port)) as connection:
            connection.settimeout(5)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            try:
                self.assertEqual(connection.recv(100), b"")
            except ConnectionResetError:
                pass
        self.wait_for_line("it begins without a PROXY header", "v1")

    # HAProxy reports UP for ten seconds of its clock: five checks at the default interval of two seconds.
    def test_health_checks(self):
        for name in LISTENERS:
            while True:
                line = server(name)
                self.assertEqual(line["status"], "UP", f"{name}: {line['last_chk']}")
                if int(line["lastchg"]) >= 10:
                    break
                time.sleep(0.5)
            self.assertEqual((line["check_status"].removeprefix("* "), line["check_code"]), ("L7OK", "200"), name)
            self.assertEqual(line["chkdown"], "0", name)


def server(name):
    """The line of a listener's server in HAProxy's statistics."""
    host, port = haproxy["stats"].split(":")
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"show stat\n")
        lines = connection.makefile().read().removeprefix("# ").splitlines()
    return next(line for line in csv.DictReader(lines) if (line["pxname"], line["svname"]) == (name, "echo"))


if __name__ == "__main__":
    listeners = {name: proxy.listen() for name in ["stats", *LISTENERS]}
    haproxy = {name: proxy.address(listener) for name, listener in listeners.items()}
    config = pathlib.Path(__file__).with_name("haproxy.cfg")
    environment = {name.upper().replace("-", "_"): str(listener.fileno()) for name, listener in listeners.items()}
    environment["SERVER"] = proxy.SERVER
    with proxy.running(["haproxy", "-db", "-f", config], listeners.values(), environment):
        unittest.main()

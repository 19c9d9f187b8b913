"""Test the echo server behind HAProxy with `option httpchk GET /healthz`.   usage: URL=ws://... client.py"""
import csv, pathlib, socket, time, unittest

import proxy

haproxy = stats = None  # the addresses of its listeners


class HAProxy(unittest.IsolatedAsyncioTestCase):
    def test_health(self):
        self.assertEqual(proxy.get(haproxy, "/healthz"), (200, b"ok\n"))

    async def test_echo(self):
        async with proxy.connect(haproxy) as ws:
            for message in ["Hello, server!", "x" * 100_000, bytes(100_000)]:
                await ws.send(message)
                self.assertTrue(await ws.recv() == message)

    # HAProxy reports UP for ten seconds of its clock: five checks at the default interval of two seconds.
    def test_health_checks(self):
        while True:
            line = server()
            self.assertEqual(line["status"], "UP", line["last_chk"])
            if int(line["lastchg"]) >= 10:
                break
            time.sleep(0.5)
        self.assertEqual((line["check_status"].removeprefix("* "), line["check_code"]), ("L7OK", "200"))
        self.assertEqual(line["chkdown"], "0")


def server():
    """The server's line in HAProxy's statistics."""
    host, port = stats.split(":")
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"show stat\n")
        lines = connection.makefile().read().removeprefix("# ").splitlines()
    return next(line for line in csv.DictReader(lines) if line["svname"] == "echo")


if __name__ == "__main__":
    listeners = {"LISTEN": proxy.listen(), "STATS": proxy.listen()}
    haproxy, stats = map(proxy.address, listeners.values())
    config = pathlib.Path(__file__).with_name("haproxy.cfg")
    environment = {name: str(listener.fileno()) for name, listener in listeners.items()} | {"SERVER": proxy.SERVER}
    with proxy.running(["haproxy", "-db", "-f", config], listeners.values(), environment):
        unittest.main()

"""Test the echo server behind nginx with its default timeouts.   usage: URL=ws://... UNIX=unix:PATH client.py"""
import asyncio, os, pathlib, tempfile, time, unittest

import proxy
import websockets.asyncio.server

QUIET = 70  # seconds
PROXY_READ_TIMEOUT = 60  # seconds, by default

nginx = None  # its address
without_pings = proxy.listen()  # for a server of our own


class Nginx(unittest.IsolatedAsyncioTestCase):
    def test_health(self):
        for path in ["/healthz", "/unix/healthz"]:
            self.assertEqual(proxy.get(nginx, path), (200, b"ok\n"))

    async def test_echo(self):
        for path in ["/", "/unix/"]:
            async with proxy.connect(nginx, path) as ws:
                for message in ["Hello, server!", "x" * 100_000, bytes(100_000)]:
                    await self.echo(ws, message)

    async def echo(self, ws, message):
        await ws.send(message)
        self.assertTrue(await ws.recv() == message)

    # Clients that are silent after the handshake, after an echo, and inside a message. The control connects to a server
    # that sends no pings: nginx closes that connection, which proves that its timeout applies.
    async def test_quiet_clients_stay_open(self):
        began = time.monotonic()

        async def closing(ws):
            await ws.wait_closed()
            return ws.close_code, time.monotonic() - began

        continued = asyncio.Event()

        async def pieces():
            yield "half, "
            await continued.wait()
            yield "and half"

        async with (
            websockets.asyncio.server.serve(lambda ws: ws.wait_closed(), sock=without_pings, ping_interval=None),
            proxy.connect(nginx, "/without-pings") as control,
            proxy.connect(nginx) as after_handshake,
            proxy.connect(nginx) as after_echo,
            proxy.connect(nginx) as inside_message,
        ):
            control = asyncio.create_task(closing(control))
            await self.echo(after_echo, "before")
            rest_of_message = asyncio.create_task(inside_message.send(pieces()))
            clients = {"after handshake": after_handshake, "after echo": after_echo, "inside message": inside_message}
            closings = {name: asyncio.create_task(closing(ws)) for name, ws in clients.items()}
            await asyncio.wait(closings.values(), timeout=QUIET)
            self.assertEqual({name: task.result() for name, task in closings.items() if task.done()}, {})

            continued.set()
            await rest_of_message
            self.assertEqual(await inside_message.recv(), "half, and half")
            await self.echo(after_handshake, "after")
            await self.echo(after_echo, "after")

            code, seconds = await control
            self.assertEqual(code, 1006)
            self.assertGreater(seconds, PROXY_READ_TIMEOUT - 1)


if __name__ == "__main__":
    listener = proxy.listen()
    nginx = proxy.address(listener)
    config = pathlib.Path(__file__).with_name("nginx.conf").read_text()
    names = {"LISTEN": nginx, "SERVER": proxy.SERVER, "UNIX": os.environ["UNIX"], "WITHOUT_PINGS": proxy.address(without_pings)}
    for name, value in names.items():
        config = config.replace(f"@{name}@", value)
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "nginx.conf")
        path.write_text(config)
        command = ["nginx", "-p", directory, "-c", path, "-e", "stderr"]
        with proxy.running(command, [listener], {"NGINX": f"{listener.fileno()};"}):
            unittest.main()

"""Test the echo server with `websockets`.   usage: URL=ws://... SERVER_PID=N client.py [Exact] [Prefix] [Drain]"""
import asyncio, contextlib, logging, os, signal, unittest

import websockets.asyncio.client

MIB = 1024 * 1024
UNICODE = "Grüße, 世界 👋🏽 \0 \U0010ffff"


def binary(length):
    return bytes(i * 31 % 251 for i in range(length))


@contextlib.asynccontextmanager
async def connect():
    """A connection that offers permessage-deflate. The body of the `with` has 20 seconds."""
    async with asyncio.timeout(20):
        async with websockets.asyncio.client.connect(os.environ["URL"], max_size=None, proxy=None) as ws:
            yield ws


class Exact(unittest.IsolatedAsyncioTestCase):
    async def test_offered_deflate_is_not_accepted(self):
        async with connect() as ws:
            self.assertEqual(ws.protocol.extensions, [])

    async def test_text(self):
        async with connect() as ws:
            for text in ["", "Hello, server!", UNICODE]:
                await ws.send(text)
                self.assertEqual(await ws.recv(), text)

    async def test_lengths(self):
        for length in [0, 1, 125, 126, 127, 65535, 65536, MIB]:
            async with connect() as ws:
                for message in ["x" * length, binary(length)]:
                    with self.subTest(length=length, type=type(message)):
                        await ws.send(message)
                        self.assertTrue(await ws.recv() == message)

    async def test_message_above_1_mib_is_refused_with_1009(self):
        async with connect() as ws:
            with self.assertRaises(websockets.exceptions.ConnectionClosed):
                await ws.send(binary(MIB + 1))
                await ws.recv()
            self.assertEqual(ws.close_code, 1009)

    async def test_text_fragments_cut_inside_a_character(self):
        async with connect() as ws:
            await ws.send([bytes([byte]) for byte in UNICODE.encode()], text=True)
            self.assertEqual(await ws.recv(), UNICODE)

    async def test_binary_fragments_with_an_empty_one(self):
        async with connect() as ws:
            pieces = [binary(70_000), b"", binary(126)]
            await ws.send(pieces)
            self.assertTrue(await ws.recv() == b"".join(pieces))

    async def test_ping_between_fragments(self):
        async with connect() as ws:
            async def pieces():
                yield "first, "
                await (await ws.ping("between"))
                yield "second"
            await ws.send(pieces())
            self.assertEqual(await ws.recv(), "first, second")

    async def test_pings_and_an_unasked_pong(self):
        async with connect() as ws:
            for payload in [b"", binary(125)]:
                await (await ws.ping(payload))  # a pong with another payload does not match
            await ws.pong("unasked")
            await ws.send("still here")
            self.assertEqual(await ws.recv(), "still here")

    async def test_pipelined_messages_come_back_in_order(self):
        async with connect() as ws:
            messages = [binary(i) if i % 2 else f"message {i}" for i in range(2000)]

            async def send():
                for message in messages:
                    await ws.send(message)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(send())
                for message in messages:
                    self.assertEqual(await ws.recv(), message)

    async def test_three_connections_at_once(self):
        async with connect() as one, connect() as two, connect() as three:
            async def talk(ws, peer):
                for i in range(100):
                    await ws.send(f"peer {peer}, message {i}")
                    self.assertEqual(await ws.recv(), f"peer {peer}, message {i}")
            async with asyncio.TaskGroup() as tasks:
                for peer, ws in enumerate([one, two, three]):
                    tasks.create_task(talk(ws, peer))

    async def test_close_is_answered_with_its_code(self):
        for code, reason in [(1000, "done"), (1001, ""), (3000, ""), (4999, "r" * 123)]:
            with self.subTest(code=code):
                async with connect() as ws:
                    await ws.close(code, reason)
                    self.assertEqual(ws.close_code, code)


class Prefix(unittest.IsolatedAsyncioTestCase):
    async def test_hello_server(self):
        async with connect() as ws:
            await ws.send("Hello, server!")
            self.assertEqual(await ws.recv(), "Echo: Hello, server!")

    async def test_lengths(self):
        async with connect() as ws:
            for text in ["", UNICODE, "x" * 119, "x" * 120, "x" * 65530]:
                await ws.send(text)
                self.assertEqual(await ws.recv(), "Echo: " + text)

    async def test_fragments_and_pipelined_messages(self):
        async with connect() as ws:
            for i in range(100):
                await ws.send(["half ", f"and half {i}"])
                await ws.send(f"whole {i}")
            for i in range(100):
                self.assertEqual(await ws.recv(), f"Echo: half and half {i}")
                self.assertEqual(await ws.recv(), f"Echo: whole {i}")


class Drain(unittest.IsolatedAsyncioTestCase):
    """Must run last: with-server checks that the server then exits with 0."""

    async def test_sigterm_closes_open_connections_with_1001(self):
        async with connect() as ws:
            await ws.send("before")
            self.assertEqual(await ws.recv(), "before")
            os.kill(int(os.environ["SERVER_PID"]), signal.SIGTERM)
            await ws.wait_closed()
            self.assertEqual(ws.close_code, 1001)


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # unittest's loop is in debug mode and reports slow steps
    unittest.main()

"""A server on Python's `websockets`: its asyncio server with the C extension of its wheels, without compression, and on
uvloop if installed. The event loop sets TCP_NODELAY. With `--broadcast` it sends with the function of that name."""
import asyncio
import sys

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

try:
    from uvloop import new_event_loop
except ImportError:
    new_event_loop = None

connections = set()


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # ends only this connection


async def send_to_all(connection):
    connections.add(connection)
    try:
        async for message in connection:
            broadcast(connections, message)
    except ConnectionClosed:
        pass
    finally:
        connections.remove(connection)


async def main():
    handler = send_to_all if "--broadcast" in sys.argv else echo
    async with serve(handler, "127.0.0.1", 0, compression=None, max_size=64 << 20) as server:
        print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.wait_closed()


with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())

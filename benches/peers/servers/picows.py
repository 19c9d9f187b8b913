"""An echo server on Python's `picows`: the listener of its README, on uvloop if installed. It sends each frame back from
the buffer that received it. The event loop sets TCP_NODELAY."""
import asyncio

from picows import WSListener, WSMsgType, ws_create_server

try:
    from uvloop import new_event_loop
except ImportError:
    new_event_loop = None


class Echo(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin)


async def main():
    server = await ws_create_server(lambda request: Echo(), "127.0.0.1", 0, max_frame_size=64 << 20)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())

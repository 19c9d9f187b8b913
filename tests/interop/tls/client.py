"""Echoes and a closing handshake with Python's ssl.   usage: client.py HOST:PORT, with CERT in the environment"""

import os
import socket
import ssl
import struct
import sys

KEY = b"\x37\xfa\x21\x3d"


def frame(opcode, payload):
    length = len(payload)
    if length < 126:
        head = bytes([0x80 | opcode, 0x80 | length])
    elif length < 65536:
        head = bytes([0x80 | opcode, 0x80 | 126]) + struct.pack("!H", length)
    else:
        head = bytes([0x80 | opcode, 0x80 | 127]) + struct.pack("!Q", length)
    return head + KEY + bytes(byte ^ KEY[at % 4] for at, byte in enumerate(payload))


def read_exactly(stream, length):
    data = stream.read(length)
    assert len(data) == length, f"the stream ended after {len(data)} of {length} bytes"
    return data


def read_message(stream):
    first, length = read_exactly(stream, 2)
    if length == 126:
        (length,) = struct.unpack("!H", read_exactly(stream, 2))
    elif length == 127:
        (length,) = struct.unpack("!Q", read_exactly(stream, 8))
    return first & 15, read_exactly(stream, length)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    context = ssl.create_default_context(cafile=os.environ["CERT"])
    with socket.create_connection((host, int(port)), timeout=20) as tcp:
        # A missing close_notify is an error here.
        with context.wrap_socket(tcp, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
            stream = tls.makefile("rb")
            tls.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert b" 101 " in stream.readline()
            while stream.readline() != b"\r\n":
                pass
            for payload in (b"", b"hello", b"x" * 70_000):
                tls.sendall(frame(2, payload))
                assert read_message(stream) == (2, payload)
            tls.sendall(frame(8, struct.pack("!H", 1000)))
            assert read_message(stream) == (8, struct.pack("!H", 1000))
            assert stream.read() == b"", "close_notify follows the close frame"


main()

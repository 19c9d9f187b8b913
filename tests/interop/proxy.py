"""Code shared by the scripts for proxies: start a proxy on a free port, and send it requests.

`run` puts this file on PYTHONPATH. SERVER is the address of the server under test."""
import contextlib, http.client, os, signal, socket, subprocess, urllib.parse

import websockets.asyncio.client

SERVER = urllib.parse.urlsplit(os.environ["URL"]).netloc

signal.signal(signal.SIGTERM, signal.default_int_handler)  # otherwise SIGTERM would leave the proxy running


def listen():
    """A listening socket for the proxy to inherit. Its port cannot be taken by another program, and a client can connect
    before the proxy is ready."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)  # nginx expects an inherited socket to be non-blocking
    return listener


def address(listener):
    return "%s:%d" % listener.getsockname()


@contextlib.contextmanager
def running(command, listeners, environment):
    """Run the proxy, which inherits the listeners, until the end of the `with`."""
    proxy = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ | environment,
                             pass_fds=[listener.fileno() for listener in listeners])
    for listener in listeners:
        listener.close()  # if the proxy fails, its clients are refused instead of hanging
    try:
        yield
    finally:
        proxy.terminate()
        try:
            proxy.wait(10)
        except subprocess.TimeoutExpired:
            proxy.kill()


def connect(address, path="/"):
    """A WebSocket client that answers pings but sends none."""
    return websockets.asyncio.client.connect(f"ws://{address}{path}", ping_interval=None, proxy=None)


def get(address, path):
    """The status and the body of a GET."""
    with contextlib.closing(http.client.HTTPConnection(address)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()

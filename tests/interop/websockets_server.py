"""A server of the Python package `websockets` for the client library: websockets_server.py

It listens on a port of the kernel's choice and says so; then it says what it hears, a line each, its words divided by
tabs. Paths and query are those of `ws_server.mjs`.
"""

import asyncio
import http
import urllib.parse

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response

MAX_SIZE = 16 * 1024 * 1024
REFUSALS = {
    302: {"Location": "ws://elsewhere.example/ws"},
    401: {"WWW-Authenticate": 'Bearer realm="interop"'},
}


def tell(*said):
    print(*said, sep="\t", flush=True)


def parsed(request):
    """What a request asks for: script, argument, query."""
    url = urllib.parse.urlsplit(request.path)
    script, _, argument = url.path.removeprefix("/").partition("/")
    return script, argument, dict(urllib.parse.parse_qsl(url.query))


class Connection(ServerConnection):
    """A connection that counts what it reads and tells of the pings it gets."""

    bytes_read = 0

    def data_received(self, data):
        self.bytes_read += len(data)
        super().data_received(data)

    def process_event(self, event):
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            tell("ping", bytes(event.data).hex())
        super().process_event(event)


def prepare(connection, request):
    """Refuses, or sets up what is to be negotiated."""
    script, argument, query = parsed(request)
    if script == "status":
        status = http.HTTPStatus(int(argument))
        body = f"refused with {argument}".encode()
        headers = {**REFUSALS.get(status.value, {}), "Content-Length": str(len(body))}
        return Response(status.value, status.phrase, Headers(headers), body)
    if "deflate" in query:
        items = [item.partition(":") for item in query["deflate"].split(",")[1:]]
        answer = {name: int(bits) if bits else True for name, _, bits in items}
        connection.protocol.available_extensions = [ServerPerMessageDeflateFactory(**answer)]
    return None


def choose(connection, offered):
    wanted = parsed(connection.request)[2].get("protocol")
    return wanted if wanted in offered else None


def answered(pong, body):
    """Tells of a Pong when it comes."""

    def tell_it(done):
        if done.exception() is None:
            tell("pong", body)

    pong.add_done_callback(tell_it)


async def in_parts(websocket, message, count):
    """A message in fragments of about the same length, with a Ping between the first two."""
    length = -(-len(message) // count)
    for n in range(count):
        yield message[n * length : (n + 1) * length]
        if n == 0:
            answered(await websocket.ping(b"between"), "between")


async def echo(websocket, message, query):
    count = int(query.get("parts", 1))
    await websocket.send(message if count == 1 else in_parts(websocket, message, count))


async def close(websocket, message, _):
    code, _, reason = message.partition(" ")
    await websocket.close(int(code), reason)


async def ping(websocket, message, _):
    pong = await websocket.ping(message)
    answered(pong, message)
    await pong
    await websocket.send(f"pong {message}")


SCRIPTS = {"echo": echo, "close": close, "ping": ping}


async def handle(websocket):
    script, _, query = parsed(websocket.request)
    extensions = websocket.response.headers.get("Sec-WebSocket-Extensions", "")
    tell("open", websocket.subprotocol or "", extensions)
    try:
        while True:
            message = await websocket.recv()
            await SCRIPTS[script](websocket, message, query)
    except ConnectionClosed as closed:
        frame = closed.rcvd
        code, reason = (frame.code, frame.reason) if frame else (1006, "")
        tell("close", code, reason, websocket.bytes_read)


async def main():
    settings = {
        "create_connection": Connection,
        "process_request": prepare,
        "select_subprotocol": choose,
        "compression": None,
        "max_size": MAX_SIZE,
        "ping_interval": None,
    }
    async with serve(handle, "127.0.0.1", 0, **settings) as server:
        tell("listening", server.sockets[0].getsockname()[1])
        await server.serve_forever()


asyncio.run(main())

"""The Python package `websockets` against the broker: websockets_client.py ws://127.0.0.1:8080

Every check is a claim about the broker. Exit status 0 if all hold, 1 for the first that does not, 2 if the whole
takes too long.
"""

import asyncio
import base64
import itertools
import json
import os
import secrets
import sys
import traceback
import urllib.parse

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

DEADLINE = 60.0  # seconds for the whole script
STEP = 10.0  # seconds for one thing to arrive
MAX_MESSAGE = 1024 * 1024  # the broker's default, in bytes of payload
SUBSCRIBERS = 100
MESSAGES = 200
JSON_SUBPROTOCOL = "tidecast.json.v1"

BASE = ""
RUN = secrets.token_hex(4)
CHECKS = []


def check(function):
    """Adds a check to the list; its docstring is the claim."""
    CHECKS.append(function)
    return function


def topic_for(name):
    """A topic that no other check and no earlier run has used."""
    return f"interop/websockets/{RUN}/{name}"


def raw_path(topic, query=""):
    return f"/t/{urllib.parse.quote(topic, safe='')}{query}"


async def within(awaitable, what):
    try:
        async with asyncio.timeout(STEP):
            return await awaitable
    except TimeoutError:
        raise AssertionError(f"no {what} within {STEP} s") from None


def expect(actual, wanted, what):
    if actual != wanted:
        raise AssertionError(f"{what}: {short(actual)} instead of {short(wanted)}")


def short(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)} characters)"


def opened(path, **options):
    """A connection that takes messages of any size and uses no proxy of the environment."""
    return connect(BASE + path, max_size=None, proxy=None, open_timeout=STEP, close_timeout=STEP, **options)


class Connections:
    """Connections that are closed together, all at once: one that hangs holds up none of the others."""

    def __init__(self):
        self.websockets = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await asyncio.gather(*(websocket.close() for websocket in self.websockets))

    async def open(self, path, **options):
        websocket = await opened(path, **options)
        self.websockets.append(websocket)
        return websocket

    async def raw(self, topic, query=""):
        return await self.open(raw_path(topic, query))

    async def json(self):
        websocket = await self.open("/ws", subprotocols=[JSON_SUBPROTOCOL])
        verb, hello = json.loads(await receive(websocket))
        expect(verb, "hello", "the first message")
        return Json(websocket, hello)


async def receive(websocket):
    return await within(websocket.recv(), "message")


class Json:
    """A connection that speaks `tidecast.json.v1`. Replies and deliveries are told apart by their verb."""

    def __init__(self, websocket, hello):
        self.websocket = websocket
        self.hello = hello
        self.refs = itertools.count(1)
        self.deliveries = []
        self.replies = []

    async def say(self, *command):
        await self.websocket.send(json.dumps(command))

    async def read(self):
        message = json.loads(await receive(self.websocket))
        (self.deliveries if message[0] == "msg" else self.replies).append(message)

    async def delivery(self):
        while not self.deliveries:
            await self.read()
        return self.deliveries.pop(0)

    async def reply(self):
        while not self.replies:
            await self.read()
        return self.replies.pop(0)

    async def ask(self, *command, **options):
        """Says a command with a `ref`; the broker answers one connection's commands in order."""
        ref = next(self.refs)
        await self.say(*command, {**options, "ref": ref})
        reply = await self.reply()
        expect(reply[1], ref, f"the ref in the answer to {short(command)}, {reply}")
        return reply

    async def ok(self, *command, **options):
        reply = await self.ask(*command, **options)
        expect(reply[0], "ok", f"the answer to {short(command)}, {reply}")

    async def err(self, code, *command, **options):
        reply = await self.ask(*command, **options)
        expect([reply[0], reply[2]], ["err", code], f"the answer to {short(command)}, {reply}")


@check
async def many_subscribers():
    """100 subscribers get every message once, in the order sent, text as text and bytes as bytes"""
    topic = topic_for("many")
    wanted = [f"message {n}" if n % 3 else f"message {n}".encode() for n in range(MESSAGES)]
    async with Connections() as connections:
        subscribers = await asyncio.gather(*(connections.raw(topic, "?mode=sub") for _ in range(SUBSCRIBERS)))
        publisher = await connections.raw(topic, "?mode=pub")

        async def subscriber(websocket):
            for message in [*wanted, "end"]:
                expect(await receive(websocket), message, "the next message")

        async with asyncio.TaskGroup() as group:
            for websocket in subscribers:
                group.create_task(subscriber(websocket))
            for message in [*wanted, "end"]:
                await publisher.send(message)


@check
async def fragments():
    """A message sent in fragments is one message, and a ping between them is answered"""
    topic = topic_for("fragments")
    async with Connections() as connections:
        subscribers = [await connections.raw(topic, "?mode=sub") for _ in range(6)]
        publisher = await connections.raw(topic, "?mode=pub")

        async def arrives(message):
            for websocket in subscribers:
                expect(await receive(websocket), message, "the reassembled message")

        await publisher.send(["one ", "", "two ", "three"])
        await arrives("one two three")
        # Characters of several bytes, split inside.
        euro = "€ and 𝄞".encode()
        await publisher.send([euro[i : i + 1] for i in range(len(euro))], text=True)
        await arrives(euro.decode())
        pieces = [os.urandom(n) for n in (1, 125, 126, 65_535, 65_536, 0, 7)]
        await publisher.send(pieces)
        await arrives(b"".join(pieces))

        async def with_a_ping():
            yield "before "
            await within(await publisher.ping(), "pong inside a fragmented message")
            yield "after"

        await publisher.send(with_a_ping())
        await arrives("before after")


@check
async def compression():
    """An offer of permessage-deflate is accepted, and compressed messages come back as they were"""
    for path in ("/ws", raw_path(topic_for("compression"))):
        async with opened(path, compression="deflate") as websocket:
            offered = websocket.request.headers["Sec-WebSocket-Extensions"]
            assert "permessage-deflate" in offered, f"the client offered {offered}"
            accepted = websocket.response.headers.get("Sec-WebSocket-Extensions", "")
            assert accepted.startswith("permessage-deflate"), f"the broker accepted {accepted!r}"
    async with opened(raw_path(topic_for("compression")), compression="deflate") as websocket:
        for message in ("tide " * 20_000, "short", "", bytes(100_000), os.urandom(10_000), "tide " * 20_000):
            await websocket.send(message)
            echoed = await within(websocket.recv(), "a compressed message")
            assert echoed == message, f"{len(message)} became {len(echoed)}"


@check
async def subprotocols():
    """/ws takes the client's first known subprotocol, /t the first that is no credential"""

    async def chosen(path, offered):
        async with opened(path, subprotocols=offered) as websocket:
            return websocket.subprotocol

    expect(await chosen("/ws", [JSON_SUBPROTOCOL]), JSON_SUBPROTOCOL, "subprotocol")
    expect(await chosen("/ws", ["bearer.secret", "mqtt", JSON_SUBPROTOCOL]), JSON_SUBPROTOCOL, "subprotocol")
    expect(await chosen("/ws", None), None, "subprotocol when none is offered")
    topic = raw_path(topic_for("subprotocols"))
    expect(await chosen(topic, ["bearer.secret", "mine", "other"]), "mine", "subprotocol")
    expect(await chosen(topic, None), None, "subprotocol when none is offered")
    try:
        await chosen("/ws", ["mqtt", "stomp"])
    except InvalidStatus as refusal:
        expect(refusal.response.status_code, 400, "status for unknown subprotocols")
        assert JSON_SUBPROTOCOL.encode() in refusal.response.body, "the refusal names the known ones"
    else:
        raise AssertionError("unknown subprotocols were accepted")


@check
async def sessions():
    """The hello comes first and tells the session and the limits"""
    async with Connections() as connections:
        one, other = await connections.json(), await connections.json()
        expect(one.hello["max_message"], MAX_MESSAGE, "max_message")
        assert one.hello["ping_ms"] > 0, one.hello
        assert one.hello["session"] != other.hello["session"], "two connections share a session"


@check
async def wildcards():
    """+ stands for one level, # for the parent and all below; overlapping filters deliver once"""
    root = topic_for("wildcards")
    topics = [root, f"{root}/kitchen", f"{root}/kitchen/lamp", f"{root}/salle à manger/lamp", f"{root}/end"]
    filters = {
        (f"{root}/+",): [1, 4],
        (f"{root}/+/lamp", f"{root}/end"): [2, 3, 4],
        (f"{root}/#",): [0, 1, 2, 3, 4],
        (f"{root}/kitchen/#", f"{root}/end"): [1, 2, 4],
        (f"{root}/#", f"{root}/+", f"{root}/kitchen/lamp"): [0, 1, 2, 3, 4],
    }
    async with Connections() as connections:
        clients = []
        for chosen, wanted in list(filters.items()) * 3:
            client = await connections.json()
            for filter in chosen:
                await client.ok("sub", filter)
            clients.append((client, wanted))
        publisher = await connections.json()
        for n, topic in enumerate(topics):
            await publisher.ok("pub", topic, n)
        for client, wanted in clients:
            got = [await client.delivery() for _ in wanted]
            expect(got, [["msg", topics[n], n] for n in wanted], "the deliveries")

        raw = await connections.raw(f"{root}/+/lamp")
        await publisher.ok("pub", topics[1], "not this")
        await publisher.ok("pub", topics[3], "this")
        expect(await receive(raw), '"this"', "a raw subscriber of a filter")


@check
async def unsubscribing():
    """After unsub nothing is delivered, and a second unsub is answered not_found"""
    gone, kept = topic_for("gone"), topic_for("kept")
    async with Connections() as connections:
        clients = [await connections.json() for _ in range(10)]
        publisher = await connections.json()
        for client in clients:
            await client.ok("sub", gone)
            await client.ok("sub", kept)
            await client.ok("unsub", gone)
            await client.err("not_found", "unsub", gone)
        await publisher.ok("pub", gone, "lost")
        await publisher.ok("pub", kept, "found")
        for client in clients:
            expect(await client.delivery(), ["msg", kept, "found"], "the only delivery")


@check
async def mistakes():
    """Each mistake has its code, and the connection is as good as before"""
    async with Connections() as connections:
        client = await connections.json()
        topic = topic_for("mistakes")
        await client.ok("sub", topic)
        for bad in ("", "with/+", "with/#", "\0", "é" * 128):
            await client.err("bad_topic", "pub", bad, None)
        for bad in ("", "#/after", "in+side", "in/side#"):
            await client.err("bad_topic", "sub", bad)
        for frame, code in {
            "{": "bad_message",
            "null": "bad_message",
            '["sub"]': "bad_message",
            '[["sub", "a"]]': "bad_message",
            '["listen", "a"]': "unknown_verb",
        }.items():
            await client.websocket.send(frame)
            reply = await client.reply()
            expect(reply[:3], ["err", None, code], f"the answer to {frame}, {reply}")
        await client.ok("pub", topic, {"still": "here"})
        expect(await client.delivery(), ["msg", topic, {"still": "here"}], "the delivery afterwards")


@check
async def kinds():
    """Text, bytes and JSON keep their kind between raw and JSON connections"""
    topic = topic_for("kinds")
    data = bytes(range(256))
    async with Connections() as connections:
        client, raw = await connections.json(), await connections.raw(topic, "?echo=0")
        await client.ok("sub", topic)
        for payload, options, wanted in [
            ({"a": [1, None]}, {}, '{"a": [1, null]}'),
            ("a JSON string", {}, '"a JSON string"'),
            ("just text", {"kind": "text"}, "just text"),
            (base64.b64encode(data).decode(), {"kind": "binary"}, data),
        ]:
            await client.ok("pub", topic, payload, **options)
            expect((await client.delivery())[:3], ["msg", topic, payload], "the JSON delivery")
            expect(await receive(raw), wanted, "the raw delivery")
        await raw.send("naïve text")
        expect(await client.delivery(), ["msg", topic, "naïve text"], "raw text as JSON")
        await raw.send(data)
        delivery = await client.delivery()
        expect(delivery[:3], ["msg", topic, base64.b64encode(data).decode()], "raw bytes as JSON")
        expect(delivery[4], "base64", "the mark of raw bytes")


@check
async def echo():
    """What a connection sent itself comes back, unless it asked not to"""
    topic = topic_for("echo")
    async with Connections() as connections:
        with_echo, without = await connections.raw(topic), await connections.raw(topic, "?echo=0")
        await without.send("one")
        expect(await receive(with_echo), "one", "the other's message")
        await with_echo.send("two")
        expect(await receive(with_echo), "two", "the own message")
        expect(await receive(without), "two", "the first message without echo")


@check
async def pings():
    """A ping is answered by a pong with the same payload"""
    async with Connections() as connections:
        websocket = await connections.raw(topic_for("pings"))
        for payload in (b"", b"payload", bytes(125)):
            # The library resolves this only for a pong with the ping's payload.
            await within(await websocket.ping(payload), "pong")
        client = await connections.json()
        await client.say("ping")
        expect(await client.reply(), ["pong"], "the answer to the protocol's ping")


@check
async def closing():
    """A close is answered with its own code"""
    for code in (1000, 1001, 4321):
        websocket = await opened(raw_path(topic_for("closing")))
        await within(websocket.close(code, "done"), "close")
        close = websocket.protocol.close_rcvd
        expect(close and close.code, code, "the code that came back")


@check
async def limits():
    """A message up to the limit passes whole or in fragments, a longer one closes with 1009"""
    topic = topic_for("limits")
    large = os.urandom(MAX_MESSAGE - 16)
    async with Connections() as connections:
        subscriber = await connections.raw(topic, "?mode=sub")
        publisher = await connections.raw(topic, "?mode=pub")
        await publisher.send(large)
        assert await receive(subscriber) == large, "the bytes differ"
        await publisher.send([large[i : i + 50_000] for i in range(0, len(large), 50_000)])
        assert await receive(subscriber) == large, "the bytes in fragments differ"

        for too_much in (bytes(MAX_MESSAGE + 1), [bytes(MAX_MESSAGE), b"1"]):
            websocket = await connections.raw(topic, "?mode=pub")
            try:
                await websocket.send(too_much)
                await within(websocket.recv(), "close")
            except ConnectionClosed as closed:
                expect(closed.rcvd and closed.rcvd.code, 1009, "the close code")
            else:
                raise AssertionError("a message over the limit was accepted")
        await publisher.send("after")
        expect(await receive(subscriber), "after", "the next message of another connection")


async def main():
    current = "start"
    deadline = asyncio.timeout(DEADLINE)
    try:
        async with deadline:
            for function in CHECKS:
                current = function.__doc__
                await function()
                print(f"ok: {current}", flush=True)
    except Exception:
        if deadline.expired():
            print(f"not done after {DEADLINE} s, in: {current}", file=sys.stderr)
            return 2
        print(f"FAILED: {current}", file=sys.stderr)
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: websockets_client.py <ws-base-url>")
    BASE = sys.argv[1].rstrip("/")
    sys.exit(asyncio.run(main()))

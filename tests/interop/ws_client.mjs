// The npm package `ws` against the broker: node ws_client.mjs ws://127.0.0.1:8080
//
// Every check is a claim about the broker, made with many short connections so that both ends of a delivery sit on
// every worker. Exit status 0 if all hold, 1 for the first that does not, 2 if the whole takes too long.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";

const DEADLINE_MS = 60_000; // for the whole script
const STEP_MS = 10_000; // for one thing to arrive
const MAX_MESSAGE = 1024 * 1024; // the broker's default, in bytes of payload
const SUBSCRIBERS = 20;
const MESSAGES = 1_000;

const base = process.argv[2]?.replace(/\/$/, "");
if (!base) {
  console.error("usage: node ws_client.mjs <ws-base-url>");
  process.exit(1);
}

/** Waits for `promise`, but no longer than STEP_MS. */
async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${STEP_MS} ms`)), STEP_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What has arrived and nobody has taken yet, in order. */
class Inbox {
  #items = [];
  #waiting = [];
  #failure = null;

  push(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(item);
    else this.#items.push(item);
  }

  fail(error) {
    this.#failure = error;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
  }

  take(what) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    if (this.#failure) return Promise.reject(this.#failure);
    const { promise, waiter } = pending();
    this.#waiting.push(waiter);
    return within(promise, what);
  }
}

function pending() {
  const waiter = {};
  const promise = new Promise((resolve, reject) => Object.assign(waiter, { resolve, reject }));
  return { promise, waiter };
}

const peers = new Set();

/** One connection. `frames` holds what came in as `{text}` or `{binary}`. */
class Peer {
  constructor(path, protocols) {
    // Every connection offers compression, so all checks also show that compressed messages are the same messages.
    this.ws = new WebSocket(base + path, protocols, { perMessageDeflate: true });
    this.closed = new Promise((resolve) => {
      this.ws.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.closed.then(({ code }) => this.end(new Error(`${path} was closed with ${code}`)));
    this.ws.on("error", () => {}); // a close follows
    this.ws.on("message", (data, isBinary) => this.receive(isBinary ? { binary: data } : { text: data.toString() }));
    this.frames = new Inbox();
    peers.add(this);
  }

  static async open(path, protocols) {
    const peer = new this(path, protocols);
    await within(once(peer.ws, "open"), `handshake on ${path}`);
    return peer;
  }

  receive(frame) {
    this.frames.push(frame);
  }

  end(error) {
    peers.delete(this);
    this.frames.fail(error);
  }

  send(data) {
    this.ws.send(data);
  }

  async text() {
    const { text, binary } = await this.frames.take("message");
    assert.equal(binary, undefined, "a text message was expected, a binary one came");
    return text;
  }

  async binary() {
    const { text, binary } = await this.frames.take("message");
    assert.equal(text, undefined, "a binary message was expected, a text one came");
    return binary;
  }

  async close() {
    this.ws.close(1000);
    await within(this.closed, "close");
  }
}

/** A connection that speaks `tidecast.json.v1`: replies by `ref`, deliveries in order. */
class Json extends Peer {
  #ref = 0;
  #replies = new Map();

  constructor(path, protocols) {
    super(path, protocols);
    this.deliveries = new Inbox();
    this.strays = new Inbox(); // replies to nothing in particular
    this.first = null;
  }

  static async open() {
    const peer = await super.open("/ws", ["tidecast.json.v1"]);
    const [verb, details] = JSON.parse(await peer.text());
    assert.equal(verb, "hello", "the first message is the hello");
    peer.hello = details;
    return peer;
  }

  receive(frame) {
    if (this.first === null) {
      this.first = frame;
      return this.frames.push(frame);
    }
    assert.ok(frame.text !== undefined, "a JSON connection receives text messages only");
    const said = JSON.parse(frame.text);
    const [verb, ref] = said;
    if (verb === "msg") this.deliveries.push(Object.assign(said, { raw: frame.text }));
    else if (this.#replies.has(ref)) this.#replies.get(ref).resolve(said);
    else this.strays.push(said);
  }

  end(error) {
    super.end(error);
    this.deliveries.fail(error);
    this.strays.fail(error);
    for (const waiter of this.#replies.values()) waiter.reject(error);
  }

  say(...command) {
    this.send(JSON.stringify(command));
  }

  /** Says a command with a `ref` of its own and gives back the reply to it. */
  async ask(verb, ...rest) {
    const options = { ref: `r${(this.#ref += 1)}`, ...(verb === "pub" ? rest[2] : rest[1]) };
    const { promise, waiter } = pending();
    this.#replies.set(options.ref, waiter);
    this.say(verb, ...rest.slice(0, verb === "pub" ? 2 : 1), options);
    const reply = await within(promise, `reply to ${verb} ${rest[0]}`);
    this.#replies.delete(options.ref);
    return reply;
  }

  async ok(...command) {
    const reply = await this.ask(...command);
    assert.equal(reply[0], "ok", `${JSON.stringify(command)} was answered ${JSON.stringify(reply)}`);
    return reply;
  }

  async err(code, ...command) {
    const reply = await this.ask(...command);
    assert.deepEqual(reply.slice(0, 3), ["err", reply[1], code], `${JSON.stringify(command)} was answered ${JSON.stringify(reply)}`);
    assert.equal(typeof reply[3], "string", "an err ends with a text for people");
  }

  async delivery(topic, payload) {
    const message = await this.deliveries.take(`delivery from ${topic}`);
    assert.deepEqual(message.slice(0, 3), ["msg", topic, payload]);
    return message;
  }
}

const run = randomBytes(4).toString("hex");
/** A topic that no other check and no earlier run has used. */
const topicFor = (name) => `interop/ws/${run}/${name}`;
const raw = (topic, query = "") => `/t/${encodeURIComponent(topic)}${query}`;
const several = (count, make) => Promise.all(Array.from({ length: count }, (_, i) => make(i)));

const checks = {
  async "an offer of permessage-deflate is accepted, and messages travel small both ways"() {
    for (const path of ["/ws", raw(topicFor("compressed"))]) {
      const peer = await Peer.open(path);
      assert.match(peer.ws.extensions, /^permessage-deflate/, "the extension is in use");
      await peer.close();
    }
    const path = raw(topicFor("compressed"));
    const peers = await several(SUBSCRIBERS, () => Peer.open(path));
    const before = peers.map((peer) => peer.ws._socket.bytesRead);
    const text = JSON.stringify(Array.from({ length: 2_000 }, (_, n) => ({ name: "tide", height: n % 17 })));
    for (let n = 0; n < 10; n += 1) peers[0].send(text);
    for (const [i, peer] of peers.entries()) {
      for (let n = 0; n < 10; n += 1) assert.equal(await peer.text(), text);
      const read = peer.ws._socket.bytesRead - before[i];
      assert.ok(read < text.length, `${read} bytes were read for ten messages of ${text.length}`);
    }
    assert.ok(peers[0].ws._socket.bytesWritten < text.length, "what was published was compressed too");
    for (const peer of peers) await peer.close();
  },

  async "every raw subscriber gets every message once, in order and of its kind"() {
    const subscribers = await several(SUBSCRIBERS, () => Peer.open("/t/interop%2Fws?mode=sub"));
    const publisher = await Peer.open("/t/interop%2Fws?mode=pub");
    for (let n = 0; n < MESSAGES; n += 1) {
      if (n % 2 === 0) publisher.send(`${run} text ${n}`);
      else publisher.send(Buffer.from(`${run} binary ${n}`));
    }
    publisher.send(`${run} end`);
    await Promise.all(subscribers.map(async (subscriber) => {
      for (let n = 0; n < MESSAGES; n += 1) {
        if (n % 2 === 0) assert.equal(await subscriber.text(), `${run} text ${n}`);
        else assert.equal((await subscriber.binary()).toString(), `${run} binary ${n}`);
      }
      assert.equal(await subscriber.text(), `${run} end`);
    }));
  },

  async "publishers and subscribers on every connection reach each other"() {
    const topic = topicFor("mesh");
    const everyone = await several(SUBSCRIBERS, () => Peer.open(raw(topic)));
    everyone.forEach((peer, i) => peer.send(`from ${i}`));
    const expected = everyone.map((_, i) => `from ${i}`).sort();
    await Promise.all(everyone.map(async (peer) => {
      const got = [];
      for (let n = 0; n < SUBSCRIBERS; n += 1) got.push(await peer.text());
      assert.deepEqual(got.sort(), expected);
    }));
  },

  async "the hello tells the session and the limits"() {
    const [one, other] = await several(2, () => Json.open());
    assert.equal(typeof one.hello.session, "string");
    assert.notEqual(one.hello.session, other.hello.session, "a session is one connection's");
    assert.equal(one.hello.max_message, MAX_MESSAGE);
    assert.ok(one.hello.ping_ms > 0);
    assert.equal(one.ws.protocol, "tidecast.json.v1");
  },

  async "a reply carries the ref of its command, number or string"() {
    const client = await Json.open();
    for (const ref of [7, "seven", 0, -1.5, 'a "quoted" one']) {
      assert.equal((await client.ok("sub", topicFor("ref"), { ref }))[1], ref);
    }
  },

  async "a wildcard matches by the rules of MQTT, and overlapping filters deliver once"() {
    const root = topicFor("wild");
    const publisher = await Json.open();
    const cases = {
      [`${root}/+`]: ["a", "b"],
      [`${root}/+/+`]: ["a/x", "a/"],
      [`${root}/#`]: ["", "a", "a/x", "a/", "b"],
      [`${root}/a/#`]: ["a", "a/x", "a/"],
      [`${root}/+/x`]: ["a/x"],
    };
    const subscribers = await several(SUBSCRIBERS, () => Json.open());
    const filters = Object.keys(cases);
    await Promise.all(subscribers.map((client, i) => client.ok("sub", filters[i % filters.length])));
    const overlapping = await Json.open();
    for (const filter of filters) await overlapping.ok("sub", filter);
    for (const client of [...subscribers, overlapping]) await client.ok("sub", `${run}/end`);

    const published = ["", "a", "a/x", "a/", "b"].map((rest) => (rest === "" ? root : `${root}/${rest}`));
    for (const topic of published) await publisher.ok("pub", topic, { topic });
    await publisher.ok("pub", `${run}/end`, "end");

    const expect = async (client, topics) => {
      for (const topic of topics) await client.delivery(topic, { topic });
      await client.delivery(`${run}/end`, "end");
    };
    await Promise.all(subscribers.map((client, i) => {
      const wanted = cases[filters[i % filters.length]].map((rest) => (rest === "" ? root : `${root}/${rest}`));
      return expect(client, wanted);
    }));
    await expect(overlapping, published);
  },

  async "after the ok to unsub nothing of that filter is delivered"() {
    const [stopped, marker] = [topicFor("stopped"), topicFor("marker")];
    const publisher = await Json.open();
    const clients = await several(SUBSCRIBERS, () => Json.open());
    await Promise.all(clients.map(async (client) => {
      await client.ok("sub", stopped);
      await client.ok("sub", marker);
    }));
    await publisher.ok("pub", stopped, 1);
    await Promise.all(clients.map(async (client) => {
      await client.delivery(stopped, 1);
      await client.ok("unsub", stopped);
    }));
    await publisher.ok("pub", stopped, 2);
    await publisher.ok("pub", marker, 3);
    await Promise.all(clients.map((client) => client.delivery(marker, 3)));
  },

  async "a mistake is answered by its code, and the connection goes on"() {
    const topic = topicFor("mistakes");
    const client = await Json.open();
    const still = async (n) => {
      await client.ok("pub", topic, n);
      await client.delivery(topic, n);
    };
    await client.ok("sub", topic);
    const bad = ["", "a/+", "a/#", "nul\0byte", "x".repeat(256), Array(17).fill("l").join("/")];
    for (const [n, topic] of bad.entries()) {
      await client.err("bad_topic", "pub", topic, n);
      await still(n);
    }
    for (const [n, filter] of ["", "a/#/b", "a+", "#a", "x".repeat(256)].entries()) {
      await client.err("bad_topic", "sub", filter);
      await still(n);
    }
    const strays = {
      bad_message: ["not json", '["pub"', '{"sub":"a"}', "[]", "7", '["pub","a"]', '["sub",7]', '["sub","a"] trailing'],
      unknown_verb: ['["dance","a"]', '["SUB","a"]', '[""]'],
    };
    for (const [code, frames] of Object.entries(strays)) {
      for (const [n, frame] of frames.entries()) {
        client.send(frame);
        const reply = await client.strays.take(`answer to ${frame}`);
        assert.deepEqual(reply.slice(0, 3), ["err", null, code], `the answer to ${frame} was ${JSON.stringify(reply)}`);
        await still(n);
      }
    }
  },

  async "a payload keeps its kind and its bytes from every way in to every way out"() {
    const topic = topicFor("kinds");
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const number = '{"exact": 1.0, "large":12345678901234567890,"text":"\\u00e9\\n"}';
    const [json, rawPeer] = [await Json.open(), await Peer.open(raw(topic, "?mode=sub"))];
    const rawPublisher = await Peer.open(raw(topic, "?mode=pub"));
    const rawJson = await Peer.open(raw(topic, "?mode=pub&kind=json"));
    await json.ok("sub", topic);
    const binary = async (payload) => {
      const message = await json.delivery(topic, payload.toString("base64"));
      assert.equal(message[4], "base64");
      assert.deepEqual(await rawPeer.binary(), payload);
    };

    // One at a time: only messages of one publisher have an order.
    json.send(`["pub",${JSON.stringify(topic)},${number}]`);
    const exact = await json.deliveries.take("exact numbers");
    assert.ok(exact.raw.includes(number), `${exact.raw} carries ${number} as it was sent`);
    assert.equal(await rawPeer.text(), number);

    json.say("pub", topic, 'plain "text", ünïcödé', { kind: "text" });
    await json.delivery(topic, 'plain "text", ünïcödé');
    assert.equal(await rawPeer.text(), 'plain "text", ünïcödé');

    json.say("pub", topic, bytes.toString("base64"), { kind: "binary" });
    await binary(bytes);

    rawPublisher.send("[not json");
    await json.delivery(topic, "[not json");
    assert.equal(await rawPeer.text(), "[not json");

    rawPublisher.send(bytes);
    await binary(bytes);

    rawPublisher.send(Buffer.alloc(0));
    await binary(Buffer.alloc(0));

    rawJson.send('{"a":[1,2]}');
    await json.delivery(topic, { a: [1, 2] });
    assert.equal(await rawPeer.text(), '{"a":[1,2]}');
  },

  async "what a connection published itself is left out where it asks for that"() {
    const topic = topicFor("echo");
    const silent = await Peer.open(raw(topic, "?echo=0"));
    const loud = await Peer.open(raw(topic));
    const json = await Json.open();
    await json.ok("sub", topic);

    silent.send("from the silent one");
    assert.equal(await loud.text(), "from the silent one");
    await json.delivery(topic, "from the silent one");
    loud.send("from the loud one");
    assert.equal(await loud.text(), "from the loud one");
    await json.delivery(topic, "from the loud one");
    assert.equal(await silent.text(), "from the loud one");

    await json.ok("pub", topic, "without echo", { echo: false });
    await json.ok("pub", topic, "with echo");
    await json.delivery(topic, "with echo");
    for (const peer of [silent, loud]) {
      assert.equal(await peer.text(), '"without echo"');
      assert.equal(await peer.text(), '"with echo"');
    }
  },

  async "a connection with mode=pub receives nothing"() {
    const topic = topicFor("mode");
    const [subscriber, publisher, both] = [
      await Peer.open(raw(topic, "?mode=sub")), await Peer.open(raw(topic, "?mode=pub")), await Peer.open(raw(topic)),
    ];
    both.send("to the subscriber");
    assert.equal(await subscriber.text(), "to the subscriber");
    assert.equal(await both.text(), "to the subscriber");
    // The pong comes after whatever a delivery to the publisher would have been.
    publisher.ws.ping("after");
    const stray = await Promise.race([within(once(publisher.ws, "pong"), "pong"), publisher.frames.take("nothing")]);
    assert.equal(String(stray[0]), "after", "the publisher received a message");
  },

  async "a ping is answered by a pong with its payload"() {
    for (const peer of [await Json.open(), await Peer.open(raw(topicFor("ping")))]) {
      for (const payload of ["", "tick", "x".repeat(125)]) {
        peer.ws.ping(payload);
        const [answer] = await within(once(peer.ws, "pong"), "pong");
        assert.equal(answer.toString(), payload);
      }
    }
    const client = await Json.open();
    client.say("ping");
    assert.deepEqual(await client.strays.take("pong of the protocol"), ["pong"]);
  },

  async "close 1000 is answered by 1000"() {
    for (const peer of [await Json.open(), await Peer.open(raw(topicFor("close")))]) {
      peer.ws.close(1000, "done");
      assert.equal((await within(peer.closed, "close")).code, 1000);
    }
  },

  async "a message up to the limit passes, a longer one closes with 1009"() {
    const topic = topicFor("large");
    const subscribers = await several(4, () => Peer.open(raw(topic, "?mode=sub")));
    const publisher = await Peer.open(raw(topic, "?mode=pub"));
    const large = randomBytes(MAX_MESSAGE - 16);
    publisher.send(large);
    for (const subscriber of subscribers) assert.ok((await subscriber.binary()).equals(large), "all bytes arrive");

    publisher.send(Buffer.alloc(MAX_MESSAGE + 1));
    assert.equal((await within(publisher.closed, "close")).code, 1009);
    const next = await Peer.open(raw(topic, "?mode=pub"));
    next.send("after");
    for (const subscriber of subscribers) assert.equal(await subscriber.text(), "after");
  },

  async "on /ws only known subprotocols are accepted, on /t the first one that is no credential"() {
    const refused = new Peer("/ws", ["chat", "soap"]);
    const [request, response] = await within(once(refused.ws, "unexpected-response"), "refusal");
    assert.equal(response.statusCode, 400);
    request.destroy();
    const chosen = async (path, protocols) => {
      const peer = await Peer.open(path, protocols);
      await peer.close();
      return peer.ws.protocol;
    };
    assert.equal(await chosen("/ws", ["chat", "bearer.token", "tidecast.json.v1"]), "tidecast.json.v1");
    assert.equal(await chosen("/ws", undefined), "");
    assert.equal(await chosen(raw(topicFor("protocol")), ["bearer.token", "chat", "soap"]), "chat");
  },
};

let current = "start";
setTimeout(() => {
  console.error(`not done after ${DEADLINE_MS} ms, in: ${current}`);
  process.exit(2);
}, DEADLINE_MS).unref();

for (const [claim, check] of Object.entries(checks)) {
  current = claim;
  try {
    await check();
  } catch (error) {
    console.error(`FAILED: ${claim}\n${error.stack}`);
    process.exit(1);
  }
  for (const peer of peers) peer.ws.terminate();
  console.log(`ok: ${claim}`);
}
process.exit(0);

// Tokens from a page in Chromium: node auth_page.mjs http://127.0.0.1:8080 <good-token> <bad-token>
//
// What a page can do and gets to see: no headers, no status, only subprotocols and close codes. Exit status 0 if all is well,
// 1 at the first failure, 2 if the whole takes too long.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { launch, limit } from "./chromium.mjs";

const DEADLINE_MS = 60_000; // for the whole script
const [base, good, bad] = process.argv.slice(2);
if (!bad) {
  console.error("usage: node auth_page.mjs <http-base-url> <good-token> <bad-token>");
  process.exit(1);
}
limit(DEADLINE_MS);

/** In the page: what becomes of a WebSocket that offers these and says that. */
function visit([url, protocols, says]) {
  return new Promise((resolve) => {
    const seen = { opened: false, protocol: null, heard: [] };
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => {
      Object.assign(seen, { opened: true, protocol: socket.protocol });
      says.forEach((message) => socket.send(message));
    };
    socket.onmessage = ({ data }) => {
      seen.heard.push(JSON.parse(data));
      if (seen.heard.length === says.length + 1) resolve(seen);
    };
    socket.onclose = ({ code, reason }) => resolve({ ...seen, code, reason });
  });
}

/** In the page: whether a WebSocket that offers these is opened, and what is answered. */
function open([url, protocols]) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => resolve([true, socket.protocol]);
    socket.onerror = () => resolve([false, ""]);
  });
}

const browser = await launch(["--host-resolver-rules=MAP elsewhere.example 127.0.0.1"]);
// A page of another site: those of this machine are let in.
const elsewhere = createServer((_, response) => response.end("<!doctype html>")).listen(0, "127.0.0.1");
await once(elsewhere, "listening");
try {
  const page = await browser.newPage();
  await page.goto(base);
  const url = `${base.replace(/^http/, "ws")}/ws`;
  const commands = ['["sub","news/#",{"ref":1}]', '["sub","#",{"ref":2}]'];

  const welcome = await page.evaluate(visit, [url, [`bearer.${good}`, "tidecast.json.v1"], commands]);
  assert.equal(welcome.protocol, "tidecast.json.v1", "a token is never answered");
  assert.deepEqual(welcome.heard[1], ["ok", 1, {}]);
  assert.deepEqual(welcome.heard[2].slice(0, 3), ["err", 2, "forbidden"]);

  // A token alone is an offer without an answer, for which a browser fails the connection.
  const topic = `${base.replace(/^http/, "ws")}/t/news%2F1?mode=sub`;
  for (const [where, second] of [[url, "tidecast.json.v1"], [topic, "payloads"]]) {
    assert.deepEqual(await page.evaluate(open, [where, [`bearer.${good}`]]), [false, ""]);
    assert.deepEqual(await page.evaluate(open, [where, [`bearer.${good}`, second]]), [true, second]);
  }

  const refused = await page.evaluate(visit, [url, [`bearer.${bad}`, "tidecast.json.v1"], commands]);
  assert.equal(refused.opened, true);
  assert.equal(refused.code, 4100);
  assert.match(refused.reason, /signature/);

  const later = await page.evaluate(visit, [url, [], [`["auth",${JSON.stringify(good)},{"ref":1}]`, commands[0]]]);
  assert.deepEqual(later.heard.slice(1), [["ok", 1, {}], ["ok", 1, {}]]);

  const stranger = await browser.newPage();
  await stranger.goto(`http://elsewhere.example:${elsewhere.address().port}/`);
  const kept = await stranger.evaluate(visit, [url, [`bearer.${good}`, "tidecast.json.v1"], commands]);
  assert.deepEqual([kept.opened, kept.code], [false, 1006], "pages of other sites are not let in, whatever they have");
} finally {
  await browser.close();
  elsewhere.close();
}

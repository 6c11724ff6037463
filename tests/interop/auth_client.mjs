// Tokens by the npm package `ws`: node auth_client.mjs ws://127.0.0.1:8080 <good-token> <bad-token>
//
// Exit status 0 if all is well, 1 at the first failure, 2 if the whole takes too long.

import assert from "node:assert/strict";
import WebSocket from "ws";

const DEADLINE_MS = 30_000; // for the whole script
const [base, good, bad] = process.argv.slice(2);
if (!bad) {
  console.error("usage: node auth_client.mjs <ws-base-url> <good-token> <bad-token>");
  process.exit(1);
}
setTimeout(() => {
  console.error(`not done after ${DEADLINE_MS} ms`);
  process.exit(2);
}, DEADLINE_MS).unref();

/** The status of a refused handshake, or the first messages of one that was accepted. */
function visit(path, protocols, options, messages = 0) {
  return new Promise((resolve, reject) => {
    const heard = [];
    const socket = new WebSocket(base + path, protocols, options);
    const done = () => {
      socket.terminate();
      resolve({ protocol: socket.protocol, heard });
    };
    socket.on("error", reject);
    socket.on("unexpected-response", (_, response) => {
      response.resume();
      resolve({ status: response.statusCode, wants: response.headers["www-authenticate"] });
    });
    socket.on("open", () => messages === 0 && done());
    socket.on("message", (data) => heard.push(JSON.parse(data)) === messages && done());
    socket.on("close", (code) => resolve({ code, heard }));
  });
}

const bearer = (token) => ({ headers: { authorization: `Bearer ${token}` } });
assert.equal((await visit("/ws", [], bearer(good), 1)).heard[0][0], "hello");
assert.deepEqual(await visit("/ws", [], bearer(bad)), { status: 401, wants: "Bearer" });
assert.equal((await visit("/ws", [`bearer.${good}`, "tidecast.json.v1"], {})).protocol, "tidecast.json.v1");
assert.equal((await visit("/ws", [`bearer.${bad}`, "tidecast.json.v1"], {})).status, 401);
assert.equal((await visit("/ws", [`bearer.${bad}`, "tidecast.json.v1"], { origin: base.replace(/^ws/, "http") }, 1)).code, 4100);
assert.equal((await visit("/t/news%2Fsport", [], bearer(good))).heard.length, 0);
assert.equal((await visit("/t/staff", [], bearer(good))).status, 403);
assert.equal((await visit("/t/%23", [], bearer(good))).status, 403);
assert.equal((await visit("/t/news%2Fsport", [], {})).status, 401);
assert.equal((await visit("/ws", [], { ...bearer(good), origin: "https://evil.example" })).status, 403);
process.exit(0);

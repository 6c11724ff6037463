// A server of the npm package `ws` for the client library: node ws_server.mjs
//
// It listens on a port of the kernel's choice and says so; then it says what it hears, a line each, its words divided by
// tabs. What it does is asked for by the path, and how it compresses by the query:
//
//   /echo?parts=3      every message comes back, in that many fragments, with a Ping between the first two
//   /close             closes with the code and the reason that the first message says, `4001 enough`
//   /ping              sends a Ping with each message as its body, and says `pong` and that body when it is answered
//   /status/404        refuses the handshake with that status
//
//   ?deflate=on,server_no_context_takeover,client_max_window_bits:9     accepts permessage-deflate, with such an answer
//   ?protocol=b                                                         the subprotocol to choose

import { createServer, STATUS_CODES } from "node:http";
import { WebSocketServer } from "ws";

const MAX_PAYLOAD = 16 * 1024 * 1024;

const tell = (...said) => process.stdout.write(`${said.join("\t")}\n`);

/** What an answer may say, as `ws` calls it. */
const PARAMETERS = {
  server_no_context_takeover: "serverNoContextTakeover",
  client_no_context_takeover: "clientNoContextTakeover",
  server_max_window_bits: "serverMaxWindowBits",
  client_max_window_bits: "clientMaxWindowBits",
};

function deflateOptions(asked) {
  if (asked === null) return false;
  const options = { threshold: 0 };
  for (const [name, bits] of asked.split(",").slice(1).map((item) => item.split(":"))) {
    options[PARAMETERS[name]] = bits === undefined ? true : Number(bits);
  }
  return options;
}

/** Says a message in `count` fragments of about the same length. */
function sendInParts(ws, data, isBinary, count) {
  const length = Math.ceil(data.length / count);
  for (let n = 0; n < count; n += 1) {
    const fin = n === count - 1;
    ws.send(data.subarray(n * length, fin ? data.length : (n + 1) * length), { binary: isBinary, fin });
    if (n === 0 && !fin) ws.ping("between");
  }
}

const scripts = {
  echo(ws, data, isBinary, query) {
    sendInParts(ws, data, isBinary, Number(query.get("parts") ?? 1));
  },
  close(ws, data) {
    const [code, ...reason] = data.toString().split(" ");
    ws.close(Number(code), reason.join(" "));
  },
  ping(ws, data) {
    ws.ping(data);
  },
};

function serve(ws, socket, script, query, answer) {
  tell("open", ws.protocol, answer);
  ws.on("message", (data, isBinary) => script(ws, data, isBinary, query));
  ws.on("ping", (body) => tell("ping", body.toString("hex")));
  ws.on("pong", (body) => {
    tell("pong", body.toString());
    if (script === scripts.ping) ws.send(`pong ${body}`);
  });
  ws.on("close", (code, reason) => tell("close", code, reason.toString(), socket.bytesRead));
  ws.on("error", (error) => tell("error", error.message));
}

function refuse(socket, status, headers) {
  const body = `refused with ${status}`;
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...headers, `Content-Length: ${body.length}`, "", body];
  socket.end(lines.join("\r\n"));
}

const REFUSALS = {
  302: ["Location: ws://elsewhere.example/ws"],
  401: ['WWW-Authenticate: Bearer realm="interop"'],
};

const server = createServer();
server.on("upgrade", (request, socket, head) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  const [, name, argument] = pathname.split("/");
  if (name === "status") return refuse(socket, argument, REFUSALS[argument] ?? []);
  const acceptor = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_PAYLOAD,
    perMessageDeflate: deflateOptions(searchParams.get("deflate")),
    handleProtocols: (offered) => (offered.has(searchParams.get("protocol")) ? searchParams.get("protocol") : false),
  });
  let answer = "";
  acceptor.on("headers", (lines) => {
    [, answer] = lines.join("\n").match(/^Sec-WebSocket-Extensions: (.*)$/m) ?? [null, ""];
  });
  acceptor.handleUpgrade(request, socket, head, (ws) => serve(ws, socket, scripts[name], searchParams, answer));
});
server.listen(0, "127.0.0.1", () => tell("listening", server.address().port));

// What a Bun user writes: the path names the topic, `?mode=pub` publishes and anything else subscribes.
// `bun bun.js <port> [deflate] [tls <certificate> <key>]`
const options = process.argv.slice(3);
const deflate = options.includes("deflate");
const files = options.includes("tls") ? options.slice(options.indexOf("tls") + 1) : [];
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2] ?? 8081),
  tls: files.length > 0 ? { cert: Bun.file(files[0]), key: Bun.file(files[1]) } : undefined,
  fetch(request, server) {
    const url = new URL(request.url);
    const data = { topic: decodeURIComponent(url.pathname.slice(3)), mode: url.searchParams.get("mode") };
    return server.upgrade(request, { data }) ? undefined : new Response("a WebSocket is wanted", { status: 426 });
  },
  websocket: {
    perMessageDeflate: deflate,
    open: (socket) => void (socket.data.mode !== "pub" && socket.subscribe(socket.data.topic)),
    message: (socket, message) => void server.publish(socket.data.topic, message, deflate),
  },
});
console.log(`listening on ${server.hostname}:${server.port}`);

// The move to a WebSocket under traffic: a gate between client and hub lets each message of the upgrade through only when so
// many more events were published. None is lost, doubled or out of order, in either direction.
"use strict";

const net = require("node:net");
const { begin, check, join, name, once, open, post, run, until, url } = require("./client.cjs");

const EVENTS = 400;
/** Events between one message of the upgrade and the next: its request, the probe, the move. */
const PAUSE = 60;

let published = 0;

/** Bytes from the client, in pieces: each waits for its event. */
async function pass(pieces, hub) {
  let due = PAUSE;
  for await (const piece of pieces) {
    if (due <= 3 * PAUSE) await until(() => published >= due);
    due += PAUSE;
    hub.write(piece);
  }
}

function forward(client) {
  const hub = net.connect(new URL(url).port, "127.0.0.1");
  for (const [one, other] of [[client, hub], [hub, client]]) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
  hub.pipe(client);
  client.once("data", (first) => {
    client.pause();
    if (/\r\nUpgrade: websocket/i.test(first)) {
      client.unshift(first);
      pass(client, hub).catch(() => hub.destroy());
    } else {
      hub.write(first);
      client.pipe(hub);
    }
  });
}

const numbered = (count) => Array.from({ length: count }, (_, n) => n);

run(async () => {
  begin("upgrade under traffic");
  const gate = net.createServer(forward).listen(0, "127.0.0.1");
  await once(gate, "listening");
  const socket = open("", {}, `http://127.0.0.1:${gate.address().port}`);
  const room = `demo-${name}`;
  const theirs = [];
  const own = [];
  const carriers = new Set();
  socket.on("theirs", (n) => {
    theirs.push(n);
    carriers.add(socket.io.engine.transport.name);
  });
  socket.on("own", (n) => own.push(n));
  begin(() => `upgrade under traffic, ${published} published, ${theirs.length} and ${own.length} heard, now over ${socket.io.engine.transport.name}`);
  await once(socket, "connect");
  await join(socket, room);
  for (let n = 0; n < EVENTS; n++) {
    await post("/api/publish", { room, event: "theirs", data: n });
    published = n + 1;
    if (n % 4 === 0) socket.emit("own", room, n / 4);
    // Polls go on while the upgrade waits.
    if (n % 8 === 0) await new Promise((done) => setTimeout(done, 1));
  }
  await until(() => theirs.length >= EVENTS && own.length >= EVENTS / 4 && socket.io.engine.transport.name === "websocket");
  check(String(theirs) === String(numbered(EVENTS)), `published: ${theirs}`);
  check(String(own) === String(numbered(EVENTS / 4)), `own: ${own}`);
  check([...carriers].join() === "polling,websocket", `events came over ${[...carriers]}`);
});

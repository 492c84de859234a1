// What a page does with socket.io-client, of any version.
"use strict";

const { begin, call, check, isLegacy, join, name, once, open, post, run, transportList, transports, until } = require("./client.cjs");

const EVENTS = 300;

// The article's page: subscribe, then what is emitted to the room, its data as arguments.
async function article() {
  begin("article");
  const socket = open("");
  await once(socket, "connect");
  await join(socket, "demo");
  const arrived = once(socket, "myevent");
  await post("/api/publish", { room: "demo", event: "myevent", args: ["a", { b: "é漢😀\u2028" }] });
  const args = await arrived;
  check(JSON.stringify(args) === JSON.stringify(["a", { b: "é漢😀\u2028" }]), `got ${JSON.stringify(args)}`);
  begin("publish");
  const echoed = once(socket, "said");
  const answer = await call(socket, "said", "demo", 1, [2]);
  check(answer.ok === true, JSON.stringify(answer));
  check(JSON.stringify(await echoed) === "[1,[2]]", "the publisher, a member, gets its own event");
  begin("refused publish");
  const refused = await call(socket, "said", "closed", 1);
  check(refused.error && refused.error.code === "forbidden", JSON.stringify(refused));
  const forged = await call(socket, "callboard:gap", "demo", 1);
  check(forged.error && forged.error.code === "event_name_invalid", JSON.stringify(forged));
  begin("leave");
  const [left] = await Promise.all([once(socket, "left"), call(socket, "unsubscribe", "demo")]);
  check(left[0] === "demo", JSON.stringify(left));
  socket.disconnect();
}

async function namespaces() {
  begin("namespaces");
  const socket = open("/chat");
  await once(socket, "connect");
  await join(socket, "lobby");
  const arrived = once(socket, "hello");
  await post("/api/publish", { room: "chat/lobby", event: "hello", data: 7 });
  check(JSON.stringify(await arrived) === "[7]", "a namespace's room is its own");
  socket.disconnect();
}

async function binary() {
  begin("binary");
  const socket = open("");
  await once(socket, "connect");
  await join(socket, "demo-binary");
  const bytes = Buffer.alloc(1 << 20, 0xa5);
  bytes[0] = 1;
  const arrived = once(socket, "blob");
  socket.emit("blob", "demo-binary", { part: bytes, n: 1 }, Buffer.from([1, 2]));
  const [first, second] = await arrived;
  check(Buffer.compare(Buffer.from(first.part), bytes) === 0 && first.n === 1, "a megabyte comes back");
  check(Buffer.compare(Buffer.from(second), Buffer.from([1, 2])) === 0, "the second attachment comes back");
  socket.disconnect();
}

// An event that may be lost, as it is while a client upgrades, and otherwise is as any other.
async function volatile() {
  begin("volatile");
  const socket = open("");
  await once(socket, "connect");
  await join(socket, "demo-volatile");
  const arrived = [];
  socket.on("position", (...args) => arrived.push(JSON.stringify(args)));
  await until(() => {
    // 2.5 has no client's volatile.
    (socket.volatile ?? socket).emit("position", "demo-volatile", 1);
    return arrived.length > 0;
  });
  check(arrived[0] === "[1]", `a volatile event is published: ${arrived[0]}`);
  socket.disconnect();
}

// Events flow, perhaps while the client upgrades: none is lost, doubled or out of order, in either direction.
async function traffic() {
  begin("traffic");
  const room = `demo-traffic-${transportList}-${name}`;
  const socket = open("");
  const seen = [];
  socket.on("count", (n) => seen.push(n));
  await once(socket, "connect");
  const joined = join(socket, room);
  await joined;
  for (let n = 0; n < EVENTS; n++) {
    await post("/api/publish", { room, event: "count", data: n });
    // Below the rate that a client may have.
    if (n % 4 === 0) socket.emit("count", room, `own ${n / 4}`);
  }
  await post("/api/publish", { room, event: "over" });
  const own = () => seen.filter((n) => typeof n === "string");
  await until(() => seen.length >= EVENTS + EVENTS / 4);
  const theirs = seen.filter((n) => typeof n === "number");
  check(theirs.every((n, i) => n === i) && theirs.length === EVENTS, `${theirs.length} of ${EVENTS}: ${theirs.slice(0, 20)}`);
  check(own().every((n, i) => n === `own ${i}`) && own().length === EVENTS / 4, `own: ${own().length} ${own().slice(0, 9)}`);
  if (transports.length > 1 && !isLegacy) check(socket.io.engine.transport.name === "websocket", "the client upgraded");
  socket.disconnect();
}

// The line breaks; the page's connect handler subscribes anew.
async function reconnection() {
  begin("reconnection");
  const socket = open("");
  await once(socket, "connect");
  await join(socket, "demo-again");
  const again = once(socket, isLegacy ? "reconnect" : "connect");
  if (isLegacy) socket.socket.transport.onClose ? socket.socket.transport.onClose() : socket.socket.onDisconnect("booted");
  else socket.io.engine.close();
  await again;
  await join(socket, "demo-again");
  const arrived = once(socket, "back");
  await post("/api/publish", { room: "demo-again", event: "back" });
  check((await arrived).length === 0, "an event without arguments has none");
  socket.disconnect();
}

run(async () => {
  await article();
  await namespaces();
  if (!isLegacy) await binary();
  await volatile();
  await traffic();
  await reconnection();
});

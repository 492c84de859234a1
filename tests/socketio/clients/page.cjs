// What a page does with socket.io-client, of any version: node page.cjs PACKAGE URL TRANSPORT[,TRANSPORT]
// Exits 0 when all of it happened, and says on stderr what did not.
"use strict";

const http = require("node:http");
const [name, url, transportList] = process.argv.slice(2);
const modules = process.env.CALLBOARD_TEST_NODE_MODULES;
const io = require(require.resolve(name, { paths: [modules] }));
const transports = transportList.split(",");
const isLegacy = name === "sioc0";
const agent = new http.Agent({ keepAlive: true });

const EVENTS = 300;
const PATIENCE = 40000;

setTimeout(() => fail("gave up waiting"), PATIENCE).unref();

let step = "start";

function fail(reason) {
  process.stderr.write(`${name} over ${transportList}, at "${step}": ${reason}\n`);
  process.exit(1);
}

function check(condition, reason) {
  if (!condition) fail(reason);
}

function open(namespace, options = {}) {
  const settings = isLegacy
    ? { transports, "force new connection": true, "reconnection delay": 50, ...options }
    : { transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 100, ...options };
  return isLegacy ? io.connect(url + namespace, settings) : io(url + namespace, settings);
}

function once(socket, event) {
  return new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
}

function call(socket, ...args) {
  return new Promise((resolve) => socket.emit(...args, resolve));
}

function post(path, body) {
  return new Promise((resolve, reject) => {
    const options = { method: "POST", agent, headers: { "content-type": "application/json" } };
    const request = http.request(url + path, options, (response) => {
      let text = "";
      response.on("data", (part) => (text += part));
      response.on("end", () => (response.statusCode === 200 ? resolve(JSON.parse(text)) : reject(new Error(text))));
    });
    request.on("error", reject);
    request.end(JSON.stringify(body));
  });
}

async function join(socket, room) {
  const [[joined], answer] = await Promise.all([once(socket, "joined"), call(socket, "subscribe", room)]);
  check(joined === room, `joined ${joined}`);
  check(answer && answer.ok === true, `subscribe was answered ${JSON.stringify(answer)}`);
}

// The article's page: subscribe, then what is emitted to the room, its data as arguments.
async function article() {
  step = "article";
  const socket = open("");
  await once(socket, "connect");
  await join(socket, "demo");
  const arrived = once(socket, "myevent");
  await post("/api/publish", { room: "demo", event: "myevent", args: ["a", { b: "é漢😀\u2028" }] });
  const args = await arrived;
  check(JSON.stringify(args) === JSON.stringify(["a", { b: "é漢😀\u2028" }]), `got ${JSON.stringify(args)}`);
  step = "publish";
  const echoed = once(socket, "said");
  const answer = await call(socket, "said", "demo", 1, [2]);
  check(answer.ok === true, JSON.stringify(answer));
  check(JSON.stringify(await echoed) === "[1,[2]]", "the publisher, a member, gets its own event");
  step = "refused publish";
  const refused = await call(socket, "said", "closed", 1);
  check(refused.error && refused.error.code === "forbidden", JSON.stringify(refused));
  const forged = await call(socket, "callboard:gap", "demo", 1);
  check(forged.error && forged.error.code === "event_name_invalid", JSON.stringify(forged));
  step = "leave";
  const [left] = await Promise.all([once(socket, "left"), call(socket, "unsubscribe", "demo")]);
  check(left[0] === "demo", JSON.stringify(left));
  socket.disconnect();
}

async function namespaces() {
  step = "namespaces";
  const socket = open("/chat");
  await once(socket, "connect");
  await join(socket, "lobby");
  const arrived = once(socket, "hello");
  await post("/api/publish", { room: "chat/lobby", event: "hello", data: 7 });
  check(JSON.stringify(await arrived) === "[7]", "a namespace's room is its own");
  socket.disconnect();
}

async function binary() {
  step = "binary";
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

// Events flow while the client upgrades: none is lost, doubled or out of order, in either direction.
async function traffic() {
  step = "traffic";
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
  for (let i = 0; i < 100 && seen.length < EVENTS + EVENTS / 4; i++) await new Promise((done) => setTimeout(done, 50));
  const theirs = seen.filter((n) => typeof n === "number");
  check(theirs.every((n, i) => n === i) && theirs.length === EVENTS, `${theirs.length} of ${EVENTS}: ${theirs.slice(0, 20)}`);
  check(own().every((n, i) => n === `own ${i}`) && own().length === EVENTS / 4, `own: ${own().length} ${own().slice(0, 9)}`);
  if (transports.length > 1 && !isLegacy) check(socket.io.engine.transport.name === "websocket", "the client upgraded");
  socket.disconnect();
}

// The line breaks; the page's connect handler subscribes anew.
async function reconnection() {
  step = "reconnection";
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

(async () => {
  await article();
  await namespaces();
  if (!isLegacy) await binary();
  await traffic();
  await reconnection();
  process.exit(0);
})().catch((error) => fail(error.stack));

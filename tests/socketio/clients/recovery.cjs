// What a page does that is cut off and comes back: node recovery.cjs MANNER URL TRANSPORT[,TRANSPORT]
// MANNER: `recovered` relies on Socket.IO's own recovery, `since` shows its last id in `auth`.
// Exits 0 when all of it happened, and says on stderr what did not.
"use strict";

const http = require("node:http");
const [manner, url, transportList] = process.argv.slice(2);
const { io } = require(require.resolve("sioc4", { paths: [process.env.CALLBOARD_TEST_NODE_MODULES] }));
const agent = new http.Agent({ keepAlive: true });

setTimeout(() => fail("gave up waiting"), 240000).unref();

let step = "start";

function fail(reason) {
  process.stderr.write(`${manner} over ${transportList}, at "${step}": ${reason}\n`);
  process.exit(1);
}

function check(condition, reason) {
  if (!condition) fail(reason);
}

function open(namespace, options = {}) {
  const settings = { transports: transportList.split(","), forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 100 };
  return io(url + namespace, { ...settings, ...options });
}

function once(socket, event) {
  return new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
}

function publish(room, data) {
  return new Promise((resolve, reject) => {
    const options = { method: "POST", agent, headers: { "content-type": "application/json" } };
    const request = http.request(`${url}/api/publish`, options, (response) => {
      response.resume();
      response.on("end", () => (response.statusCode === 200 ? resolve() : reject(new Error(response.statusCode))));
    });
    request.on("error", reject);
    request.end(JSON.stringify({ room, event: "n", data }));
  });
}

function members(room) {
  return new Promise((resolve, reject) => {
    http.get(`${url}/api/rooms/${room}`, { agent }, (response) => {
      let text = "";
      response.on("data", (part) => (text += part));
      response.on("end", () => resolve(JSON.parse(text).connections ?? 0));
    }).on("error", reject);
  });
}

async function publishAll(room, from, to) {
  for (let n = from; n < to; n++) await publish(room, n);
}

// Numbers as a page gets them; it is told when it has so many.
function collect(socket) {
  const seen = [];
  let waiting = () => {};
  socket.on("n", (n) => {
    seen.push(n);
    waiting();
  });
  const reached = (count) => new Promise((resolve) => (waiting = () => seen.length >= count && resolve())(seen));
  return { seen, reached };
}

// The line breaks, and comes back by itself once all this is published.
async function cutOff(socket, whileAway) {
  socket.io.reconnection(false);
  const gone = once(socket, "disconnect");
  socket.io.engine.close();
  await gone;
  await whileAway();
  socket.io.reconnection(true);
  const back = once(socket, "connect");
  socket.connect();
  await back;
}

function inOrder(seen, count) {
  check(seen.length === count && seen.every((n, i) => n === i), `${seen.length} of ${count}: ${seen}`);
}

async function recovered(namespace, room) {
  step = `recovered ${namespace}`;
  const hubRoom = namespace === "/" ? room : `${namespace.slice(1)}/${room}`;
  const socket = open(namespace);
  const { seen, reached } = collect(socket);
  await once(socket, "connect");
  check(socket.recovered === false, "a first connection recovers nothing");
  await Promise.all([once(socket, "joined"), socket.emitWithAck("subscribe", room)]);
  await publishAll(hubRoom, 0, 5);
  await reached(5);
  for (const [from, to] of [[5, 25], [25, 30]]) {
    await cutOff(socket, () => publishAll(hubRoom, from, to));
    check(socket.recovered === true, "what is all there is recovered");
    await publish(hubRoom, to);
    await reached(to + 1);
    seen.pop();
    inOrder(seen, to);
  }
  socket.disconnect();
}

async function beforeTheFirstEvent() {
  step = "before the first event";
  const socket = open("/");
  const { seen, reached } = collect(socket);
  await once(socket, "connect");
  await socket.emitWithAck("subscribe", "demo-first", "demo-second");
  await cutOff(socket, () => publishAll("demo-second", 0, 3));
  check(socket.recovered === true, "the answer to a subscription says where it stands");
  await reached(3);
  inOrder(seen, 3);
  socket.disconnect();
}

async function beyondRetention() {
  step = "beyond retention";
  const socket = open("/");
  const { seen } = collect(socket);
  await once(socket, "connect");
  await socket.emitWithAck("subscribe", "demo-old");
  await cutOff(socket, () => publishAll("demo-old", 0, 130));
  check(socket.recovered === false, "more was published than is kept");
  await publish("demo-old", 130);
  await socket.emitWithAck("subscribe", "demo-other");
  check(seen.length === 0, `a new session is in no room, and got ${seen}`);
  step = "no history";
  await socket.emitWithAck("subscribe", "plain");
  await cutOff(socket, async () => {});
  check(socket.recovered === false, "a room without history proves nothing");
  step = "left of its own will";
  await socket.emitWithAck("subscribe", "demo-left");
  socket.disconnect();
  // The hub hears of it over another connection than it hears of the next.
  while ((await members("demo-left")) > 0);
  socket.connect();
  await once(socket, "connect");
  check(socket.recovered === false, "a client that disconnects is done");
  socket.disconnect();
}

async function since() {
  step = "since";
  let last = "";
  const socket = open("/", { auth: (done) => done({ since: last }) });
  const { seen, reached } = collect(socket);
  const gaps = [];
  socket.on("callboard:gap", (gap) => gaps.push(gap));
  socket.onAny((_, ...args) => {
    if (typeof args.at(-1) === "string") last = args.at(-1);
  });
  await once(socket, "connect");
  await socket.emitWithAck("subscribe", "demo-since", "demo-quiet");
  await publishAll("demo-since", 0, 4);
  await reached(4);
  await cutOff(socket, async () => {
    await publishAll("demo-since", 4, 9);
    await publishAll("demo-quiet", 9, 12);
  });
  await socket.emitWithAck("subscribe", "demo-since");
  await socket.emitWithAck("subscribe", "demo-quiet");
  await publish("demo-quiet", 12);
  await reached(13);
  inOrder(seen, 13);
  check(gaps.length === 0, JSON.stringify(gaps));
  step = "since an id that is none";
  const told = once(socket, "callboard:gap");
  await cutOff(socket, async () => (last = "garbage"));
  await socket.emitWithAck("subscribe", "demo-since");
  const [gap] = await told;
  check(gap.reason === "unknown_position" && gap.rooms.join() === "demo-since", JSON.stringify(gap));
  socket.disconnect();
}

(async () => {
  if (manner === "since") await since();
  else {
    await recovered("/", "demo-a");
    await recovered("/demo", "lobby");
    await beforeTheFirstEvent();
    await beyondRetention();
  }
  process.exit(0);
})().catch((error) => fail(error.stack));

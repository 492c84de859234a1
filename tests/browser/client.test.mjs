/** The browser client against a WebSocket that is none, on a clock that only moves when told. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Callboard, CallboardError, reconnectDelay } from "../../static/callboard.js";

/** Every socket that the client opened, oldest first. @type {FakeSocket[]} */
let sockets;

class FakeSocket {
  sent = [];
  closed = false;

  constructor(address, protocols) {
    Object.assign(this, { address: new URL(address), protocols });
    sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
  }

  open() {
    this.onopen?.();
    this.hear({ type: "welcome", connection: `c${sockets.length}`, user: null });
  }

  hear(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  /** The hub, or the network, ends it. */
  end(code, reason = "") {
    this.onclose?.({ code, reason });
  }
}

const settle = async () => {
  for (let turn = 0; turn < 10; turn += 1) await null;
};
const advance = async (milliseconds) => {
  mock.timers.tick(milliseconds);
  await settle();
};
const newest = () => sockets.at(-1);

/** A client, connected. Without a heartbeat unless the test is about it. */
async function connected(options = {}) {
  const board = new Callboard("ws://hub.test/ws", { WebSocket: FakeSocket, ping: 0, ...options });
  await settle();
  newest().open();
  return board;
}

function record(board, name) {
  const heard = [];
  board.on(name, (...values) => heard.push(values.length > 1 ? values : values[0]));
  return heard;
}

beforeEach(() => {
  sockets = [];
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  mock.method(Math, "random", () => 1);
});

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

test("the address names the rooms and the subprotocol carries the token", async () => {
  await connected({ rooms: ["lobby", "a&b"], token: "x.y.z" });
  assert.deepEqual(newest().address.searchParams.getAll("room"), ["lobby", "a&b"]);
  assert.deepEqual(newest().protocols, ["callboard", "token.x.y.z"]);
});

test("without a token no subprotocol is offered, since a browser gives up when an offer is not answered", async () => {
  await connected();
  assert.deepEqual(newest().protocols, []);
});

test("an http address becomes a WebSocket address", async () => {
  new Callboard("https://hub.test/push/ws", { WebSocket: FakeSocket });
  await settle();
  assert.equal(newest().address.href, "wss://hub.test/push/ws");
});

test("a token that is a function is asked for anew before every connection", async () => {
  let count = 0;
  await connected({ token: async () => `t${++count}` });
  newest().end(1006);
  await advance(500);
  assert.deepEqual(sockets.map(({ protocols }) => protocols[1]), ["token.t1", "token.t2"]);
});

test("a client that is closed while its token is fetched connects no more", async () => {
  let give;
  const board = new Callboard("ws://hub.test/ws", { WebSocket: FakeSocket, token: () => new Promise((resolve) => (give = resolve)) });
  await settle();
  board.close();
  give("late");
  await settle();
  assert.deepEqual(sockets, []);
});

test("a token that cannot be fetched is said so, and fetched again later", async () => {
  let fails = true;
  const token = async () => {
    if (fails) throw new Error("login is down");
    return "t";
  };
  const board = new Callboard("ws://hub.test/ws", { WebSocket: FakeSocket, token });
  const errors = record(board, "callboard:error");
  await settle();
  assert.deepEqual(errors.map(({ code }) => code), ["token"]);
  fails = false;
  await advance(500);
  assert.equal(sockets.length, 1);
});

test("events reach the listeners of their name, with data or the list of arguments", async () => {
  const board = await connected({ rooms: ["r"] });
  const news = record(board, "news");
  const all = record(board, "*");
  newest().hear({ type: "event", room: "r", event: "news", data: { a: 1 } });
  newest().hear({ type: "event", room: "r", event: "news", args: [1, 2] });
  newest().hear({ type: "event", user: true, event: "letter", data: "x" });
  assert.deepEqual(news.map(([data]) => data), [{ a: 1 }, [1, 2]]);
  assert.equal(all.length, 3);
});

test("an event named like one of the client's own notices is still only an event", async () => {
  const board = await connected({ rooms: ["r"] });
  const [events, notices] = [record(board, "gap"), record(board, "callboard:gap")];
  newest().hear({ type: "event", room: "r", event: "gap", data: 1 });
  assert.equal(events.length, 1);
  assert.equal(notices.length, 0);
});

test("a listener that throws hinders no other", async () => {
  const reported = mock.method(console, "error", () => {});
  const board = await connected({ rooms: ["r"] });
  board.on("news", () => {
    throw new Error("page's own fault");
  });
  const heard = record(board, "news");
  newest().hear({ type: "event", room: "r", event: "news", data: 1 });
  assert.equal(heard.length, 1);
  assert.equal(reported.mock.callCount(), 1);
});

test("a listener that was taken off hears no more", async () => {
  const board = await connected({ rooms: ["r"] });
  const heard = [];
  const stop = board.on("news", (data) => heard.push(data));
  stop();
  newest().hear({ type: "event", room: "r", event: "news", data: 1 });
  assert.deepEqual(heard, []);
});

test("answers find their questions by ref, in any order", async () => {
  const board = await connected({ rooms: ["r"] });
  const [first, second] = [board.publish("r", "a", 1), board.publish("r", "b")];
  const [a, b] = newest().sent;
  assert.deepEqual(b, { type: "publish", room: "r", event: "b", data: null, ref: b.ref });
  newest().hear({ type: "ack", id: "2-0", ref: b.ref });
  newest().hear({ type: "error", code: "forbidden", message: "no", ref: a.ref });
  assert.equal((await second).id, "2-0");
  await assert.rejects(first, (error) => error instanceof CallboardError && error.code === "forbidden");
});

test("a publish that nobody answers is given up after ten seconds", async () => {
  const board = await connected();
  const published = board.publish("r", "a");
  await advance(10_000);
  await assert.rejects(published, { code: "timeout" });
});

test("a publish is refused at once while disconnected, and when the connection breaks before the answer", async () => {
  const board = await connected();
  const caught = board.publish("r", "a");
  newest().end(1006);
  await assert.rejects(caught, { code: "disconnected" });
  await assert.rejects(board.publish("r", "a"), { code: "disconnected" });
});

test("a join resolves when the hub confirms it and rejects when the hub forbids it", async () => {
  const board = await connected({ rooms: ["r"] });
  const [good, bad] = [board.join("good"), board.join("bad")];
  const [first, second] = newest().sent;
  newest().hear({ type: "joined", room: "good", ref: first.ref });
  newest().hear({ type: "error", code: "forbidden", message: "no", ref: second.ref });
  await good;
  await assert.rejects(bad, { code: "forbidden" });
  assert.deepEqual(board.rooms, ["r", "good"]);
});

test("a join made while connecting is sent once the connection is open", async () => {
  const board = new Callboard("ws://hub.test/ws", { WebSocket: FakeSocket, rooms: ["r"], ping: 0 });
  await settle();
  const joined = board.join("late");
  newest().open();
  assert.deepEqual(newest().sent.map(({ type, room }) => [type, room]), [["join", "late"]]);
  newest().hear({ type: "joined", room: "late", ref: newest().sent[0].ref });
  await joined;
});

test("a join outlives a broken connection", async () => {
  const board = await connected({ rooms: ["r"] });
  const joined = board.join("late");
  newest().end(1006);
  await advance(500);
  newest().open();
  newest().hear({ type: "joined", room: "late" });
  await joined;
});

test("events of a room that was left are not handed on", async () => {
  const board = await connected({ rooms: ["r"] });
  const heard = record(board, "*");
  board.leave("r");
  newest().hear({ type: "event", room: "r", event: "news", data: 1 });
  assert.deepEqual(heard, []);
  assert.equal(newest().sent[0].type, "leave");
});

test("rooms are rejoined with the last id heard there, the others by the address", async () => {
  await connected({ rooms: ["kept", "plain"] });
  newest().hear({ type: "event", room: "kept", event: "e", data: 1, id: "7-0" });
  newest().hear({ type: "event", room: "kept", event: "e", data: 2, id: "8-0" });
  newest().end(1006);
  await advance(500);
  newest().open();
  assert.deepEqual(newest().address.searchParams.getAll("room"), ["plain"]);
  assert.deepEqual(newest().sent.map(({ type, room, since }) => ({ type, room, since })), [{ type: "join", room: "kept", since: "8-0" }]);
});

test("a room that could not be resumed is reported as a gap", async () => {
  const board = await connected({ rooms: ["plain"] });
  const gaps = record(board, "callboard:gap");
  newest().hear({ type: "joined", room: "plain" });
  assert.deepEqual(gaps, []);
  newest().end(1006);
  await advance(500);
  newest().open();
  newest().hear({ type: "joined", room: "plain" });
  assert.deepEqual(gaps, [{ type: "gap", rooms: ["plain"], reason: "no_history", local: true }]);
});

test("a client that names no room takes the hub's default rooms and keeps them", async () => {
  const board = await connected();
  newest().hear({ type: "joined", room: "sse" });
  assert.deepEqual(board.rooms, ["sse"]);
});

test("a default room that nobody asked for is left", async () => {
  const board = await connected({ rooms: ["r"] });
  newest().hear({ type: "joined", room: "sse" });
  assert.deepEqual(newest().sent.map(({ type, room }) => [type, room]), [["leave", "sse"]]);
  assert.deepEqual(board.rooms, ["r"]);
});

test("a hundred rooms are joined in batches that the hub's rate allows", async () => {
  const rooms = Array.from({ length: 116 }, (_, index) => `r${index}`);
  await connected({ rooms });
  assert.equal(newest().address.searchParams.getAll("room").length, 16);
  assert.equal(newest().sent.length, 40);
  await advance(1_000);
  assert.equal(newest().sent.length, 80);
  await advance(1_000);
  assert.equal(new Set(newest().sent.map(({ room }) => room)).size, 100);
});

for (const code of [1000, 1002, 1003, 1007, 1008]) {
  test(`close code ${code} is final`, async () => {
    const board = await connected({ rooms: ["r"] });
    const states = record(board, "callboard:state");
    newest().end(code, "why");
    await advance(600_000);
    assert.equal(sockets.length, 1);
    assert.deepEqual(states, [{ state: "closed", code, reason: "why" }]);
    await assert.rejects(board.join("other"), { code: "disconnected" });
  });
}

test("an expired token is renewed where it can be, and final where it cannot", async () => {
  await connected({ token: () => "fresh" });
  newest().end(1008, "expired");
  await advance(500);
  assert.equal(sockets.length, 2);
  await connected({ token: "stale" });
  newest().end(1008, "expired");
  await advance(600_000);
  assert.equal(sockets.length, 3);
});

test("the wait doubles up to half a minute and is spread by chance", () => {
  const waits = [0, 1, 2, 5, 6, 20].map((attempt) => reconnectDelay(1006, attempt, () => 1));
  assert.deepEqual(waits, [500, 1_000, 2_000, 16_000, 30_000, 30_000]);
  assert.equal(reconnectDelay(1006, 0, () => 0), 125);
});

test("a hub that sends everyone away gets them back spread over seconds", () => {
  for (const code of [1001, 1012, 1013]) {
    assert.equal(reconnectDelay(code, 0, () => 0), 1_250);
    assert.equal(reconnectDelay(code, 0, () => 1), 5_000);
  }
});

test("the backoff starts anew only after a connection that held", async () => {
  const board = await connected();
  const delays = record(board, "callboard:state");
  newest().end(1006);
  await advance(500);
  newest().open();
  newest().end(1006);
  await advance(1_000);
  newest().open();
  await advance(10_000);
  newest().end(1006);
  assert.deepEqual(delays.filter(({ state }) => state === "waiting").map(({ delay }) => delay), [500, 1_000, 500]);
});

test("a connection that gives no sign of life is replaced", async () => {
  await connected({ ping: 25_000 });
  const silent = newest();
  await advance(25_000);
  assert.equal(silent.sent.at(-1).type, "ping");
  await advance(25_000);
  assert.ok(silent.closed);
  await advance(500);
  assert.equal(sockets.length, 2);
});

test("a connection that hears something is kept", async () => {
  await connected({ ping: 25_000, rooms: ["r"] });
  for (let minute = 0; minute < 10; minute += 1) {
    newest().hear({ type: "event", room: "r", event: "e", data: 1 });
    await advance(25_000);
  }
  assert.equal(sockets.length, 1);
});

test("a closed client stays closed and lets go of everything", async () => {
  const board = await connected({ rooms: ["r"], ping: 25_000 });
  const joined = board.join("late");
  board.close();
  await assert.rejects(joined, { code: "disconnected" });
  await advance(600_000);
  assert.equal(sockets.length, 1);
  assert.ok(newest().closed);
  assert.equal(board.state, "closed");
});

test("a frame that is no JSON and a frame of a later protocol are passed over", async () => {
  const board = await connected({ rooms: ["r"] });
  newest().hear("not json");
  newest().hear({ type: "novelty" });
  assert.equal(board.state, "open");
});

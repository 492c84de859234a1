/**
 * Callboard's browser client: one WebSocket that comes back by itself, and the rooms it listens to.
 * No dependencies, no build step; the protocol is plain JSON and described in the docs, so this file is a convenience.
 *
 *     import { Callboard } from "/static/callboard.js";
 *     const board = new Callboard("/ws", { rooms: ["lobby"] });
 *     board.on("news", (data, event) => console.log(event.room, data));
 *     board.on("callboard:gap", ({ rooms }) => rooms.forEach(reload));
 *     await board.publish("lobby", "news", { text: "Half an hour, please" });
 *
 * What the hub itself says goes by the same names as on its other wires, `callboard:…`; a publisher's event can have any other name.
 */

/**
 * @typedef {object} Options
 * @property {string | (() => string | Promise<string>)} [token] a JWT, or what fetches a fresh one before every connection
 * @property {string[]} [rooms] rooms to listen to from the start; none: the hub's default rooms
 * @property {number} [ping] milliseconds of silence after which the hub is asked for a sign of life; 0: never
 * @property {typeof globalThis.WebSocket} [WebSocket] for places that have none of their own
 */

/**
 * @typedef {object} Event
 * @property {string} event its name
 * @property {unknown} [data] its argument
 * @property {unknown[]} [args] in place of `data`, when there are several
 * @property {string} [room] where it was published
 * @property {true} [user] in place of `room`: published to this user
 * @property {string} [id] its position, in rooms with history
 */

/**
 * @typedef {object} State
 * @property {"connecting" | "open" | "waiting" | "closed"} state `waiting`: will connect again; `closed`: will not
 * @property {number} [code] of the WebSocket close frame that led here
 * @property {string} [reason] the hub's word for it
 * @property {number} [delay] milliseconds until the next attempt
 */

/** First and longest wait between attempts, in milliseconds. */
const BACKOFF = { first: 500, most: 30_000 };
/** A hub that sends everyone away at once (restart, overload) must not get everyone back at once. */
const SPREAD = 5_000;
/** A connection that held for so long starts the backoff anew. */
const STEADY = 10_000;
/** How long an answer may take. */
const PATIENCE = 10_000;
/** Joins sent in one go; the hub takes 50 messages a second from a client, and a burst of 100. */
const JOIN_BATCH = 40;
/** Rooms named in the address; proxies cut long ones off. */
const ROOMS_IN_ADDRESS = 16;

/** Codes after which a new connection would end like the last one, or is not wanted (RFC 6455 §7.4.1). */
const FINAL_CODES = new Set([1000, 1002, 1003, 1007, 1008]);
const SPREAD_CODES = new Set([1001, 1012, 1013]);

/** A refusal by the hub (`code` is its word for it), or `disconnected` / `timeout` when no answer can come. */
export class CallboardError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "CallboardError";
    this.code = code;
  }
}

/** How long to wait before the next attempt, or null for never. @param {number} code @param {number} attempt from 0 */
export function reconnectDelay(code, attempt, random = Math.random) {
  if (FINAL_CODES.has(code)) return null;
  const ceiling = Math.min(BACKOFF.most, BACKOFF.first * 2 ** attempt);
  const least = SPREAD_CODES.has(code) ? Math.max(SPREAD, ceiling) : ceiling;
  return Math.round(least / 4 + random() * least * 0.75);
}

export class Callboard {
  /** @type {State["state"]} */ state = "connecting";
  /** This connection's id: what a publisher's `except` names. @type {string | null} */ connection = null;
  /** Who the hub takes us for. @type {string | null} */ user = null;

  #address;
  #token;
  #ping;
  #WebSocket;
  /** @type {WebSocket | null} */ #socket = null;
  /** What we want to hear, and the last id heard there. @type {Map<string, { since?: string, joined?: boolean, wish?: Wish }>} */
  #rooms = new Map();
  /** Questions without an answer yet, by `ref`. @type {Map<number, { resolve: Function, reject: Function, timer: unknown }>} */
  #questions = new Map();
  /** @type {Map<string, Set<Function>>} */ #listeners = new Map();
  /** Rooms that were heard before the connection broke, without an id to resume from. @type {Set<string>} */
  #unresumable = new Set();
  /** Rooms that the address of this connection named. @type {Set<string>} */ #named = new Set();
  #ref = 0;
  #attempt = 0;
  #openedAt = 0;
  #heard = false;
  #retryTimer;
  #pingTimer;
  #joinTimer;

  /** @param {string | URL} url of the hub's `/ws`, also relative @param {Options} [options] */
  constructor(url, { token, rooms = [], ping = 25_000, WebSocket = globalThis.WebSocket } = {}) {
    this.#address = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    this.#address.protocol = this.#address.protocol.replace("http", "ws");
    this.#token = token;
    this.#ping = ping;
    this.#WebSocket = WebSocket;
    for (const room of rooms) this.#rooms.set(room, {});
    this.#connect();
  }

  /** The rooms that were asked for, whether the hub has answered yet or not. */
  get rooms() {
    return [...this.#rooms.keys()];
  }

  /**
   * Calls `listener(data, event)` for each event of that name; `data` is the list of arguments when there are several.
   * `"*"` hears every event. The hub's own: `callboard:state`, `callboard:gap`, `callboard:presence`, `callboard:joined`,
   * `callboard:left`, `callboard:welcome`, `callboard:error`, and `callboard:frame` for the text of every frame.
   * @param {string} name @param {(data: any, event: any) => void} listener
   * @returns {() => void} stops it
   */
  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => void this.#listeners.get(name)?.delete(listener);
  }

  /**
   * Listens to a room, now and after every reconnect. Resolves when the hub has confirmed it; waits for the connection if need be.
   * @param {string} room @param {{ since?: string }} [position] replays what came after this id, where the room keeps history
   * @returns {Promise<void>}
   */
  join(room, { since } = {}) {
    const entry = this.#rooms.get(room) ?? {};
    if (entry.joined) return Promise.resolve();
    if (entry.wish) return entry.wish.promise;
    if (this.state === "closed") return Promise.reject(new CallboardError("disconnected", "the connection is closed"));
    entry.since = since ?? entry.since;
    entry.wish = new Wish();
    this.#rooms.set(room, entry);
    if (this.state === "open") this.#sendJoin(room);
    return entry.wish.promise;
  }

  /** Stops listening to a room. @param {string} room @returns {Promise<void>} */
  async leave(room) {
    this.#rooms.get(room)?.wish?.reject(new CallboardError("left", `left ${room} before it was joined`));
    this.#rooms.delete(room);
    this.#unresumable.delete(room);
    if (this.state === "open") await this.#ask({ type: "leave", room });
  }

  /**
   * Publishes to a room, under the hub's rules. Rejects at once while disconnected: whether to say it later is the caller's decision.
   * @param {string} room @param {string} event @param {unknown} [data]
   * @returns {Promise<{ id?: string }>} the hub's acknowledgement
   */
  publish(room, event, data = null) {
    return this.#ask({ type: "publish", room, event, data });
  }

  /** Round trip to the hub, in milliseconds. @returns {Promise<number>} */
  async ping() {
    const start = performance.now();
    await this.#ask({ type: "ping" });
    return performance.now() - start;
  }

  /** Ends the connection for good. */
  close() {
    this.#drop();
    this.#enter({ state: "closed", code: 1000, reason: "closed by this page" });
    this.#forgetWishes();
  }

  async #connect() {
    this.#enter({ state: "connecting" });
    let token;
    try {
      token = typeof this.#token === "function" ? await this.#token() : this.#token;
    } catch (error) {
      this.#emit("callboard:error", { type: "error", code: "token", message: String(error) });
      return this.#comeBack(1006, "no token");
    }
    if (this.state !== "connecting") return;
    const address = new URL(this.#address);
    this.#named = new Set(this.#roomsForAddress());
    for (const room of this.#named) address.searchParams.append("room", room);
    const socket = new this.#WebSocket(address.href, token ? ["callboard", `token.${token}`] : []);
    this.#socket = socket;
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  /** Rooms to resume need their id and so a message; the others can be joined by the address, a round trip earlier. */
  #roomsForAddress() {
    const fresh = [...this.#rooms].filter(([, entry]) => !entry.since);
    return fresh.slice(0, ROOMS_IN_ADDRESS).map(([room]) => room);
  }

  #opened() {
    this.#openedAt = Date.now();
    this.#enter({ state: "open" });
    this.#joinAll(this.rooms.filter((room) => !this.#named.has(room)));
    this.#heard = true;
    if (this.#ping > 0) this.#pingTimer = setInterval(() => this.#watch(), this.#ping);
  }

  #joinAll(rooms) {
    rooms.slice(0, JOIN_BATCH).forEach((room) => this.#rooms.has(room) && this.#sendJoin(room));
    if (rooms.length > JOIN_BATCH) this.#joinTimer = setTimeout(() => this.#joinAll(rooms.slice(JOIN_BATCH)), 1_000);
  }

  #sendJoin(room) {
    const { since } = this.#rooms.get(room);
    this.#ask(since ? { type: "join", room, since } : { type: "join", room }).catch((error) => this.#joinRefused(room, error));
  }

  /** No answer says nothing about the room: it may still come, or the room is asked for again on the next connection. */
  #joinRefused(room, error) {
    if (error.code === "disconnected" || error.code === "timeout") return;
    this.#rooms.get(room)?.wish?.reject(error);
    this.#rooms.delete(room);
  }

  /** A network that went away silently leaves the socket open for minutes; only an answer proves it. */
  #watch() {
    if (!this.#heard) return this.#lost(1006, "no sign of life");
    this.#heard = false;
    this.ping().catch(() => {});
  }

  #ask(question) {
    if (this.state !== "open") return Promise.reject(new CallboardError("disconnected", "not connected to the hub"));
    const ref = ++this.#ref;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answer(ref, null, new CallboardError("timeout", "the hub did not answer")), PATIENCE);
      this.#questions.set(ref, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ ...question, ref }));
    });
  }

  #answer(ref, frame, error) {
    const question = this.#questions.get(ref);
    if (!question) return;
    this.#questions.delete(ref);
    clearTimeout(question.timer);
    if (error) question.reject(error);
    else question.resolve(frame);
  }

  #receive(text) {
    this.#heard = true;
    this.#emit("callboard:frame", text);
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return; // not of this protocol; a newer hub may know more than we do
    }
    if (frame.type === "event") return this.#deliver(frame);
    if (frame.type === "joined") this.#joined(frame);
    if (frame.type === "welcome") [this.connection, this.user] = [frame.connection, frame.user ?? null];
    if (frame.type === "error") this.#answer(frame.ref, null, new CallboardError(frame.code, frame.message));
    else this.#answer(frame.ref, frame);
    if (NOTICES.has(frame.type)) this.#emit(`callboard:${frame.type}`, frame);
  }

  #deliver(event) {
    const entry = this.#rooms.get(event.room);
    if (entry && event.id) entry.since = event.id;
    if (!entry && !event.user) return; // left a moment ago
    const data = event.args ?? event.data;
    this.#emit(event.event, data, event);
    this.#emit("*", data, event);
  }

  #joined({ room, id }) {
    if (!this.#rooms.has(room)) {
      // A default room: welcome if we named none, else the answer to an address without rooms.
      if (this.#rooms.size > 0) return void this.#ask({ type: "leave", room }).catch(() => {});
      this.#rooms.set(room, {});
    }
    const entry = this.#rooms.get(room);
    entry.joined = true;
    entry.since ??= id;
    entry.wish?.resolve();
    entry.wish = undefined;
    if (this.#unresumable.delete(room)) this.#emit("callboard:gap", { type: "gap", rooms: [room], reason: "no_history", local: true });
  }

  #lost(code, reason) {
    this.#drop();
    this.#comeBack(code, reason);
  }

  /** Lets go of the socket, and of everything that waited for it. */
  #drop() {
    for (const timer of [this.#retryTimer, this.#joinTimer]) clearTimeout(timer);
    clearInterval(this.#pingTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    if (this.state === "open" && Date.now() - this.#openedAt >= STEADY) this.#attempt = 0;
    for (const [room, entry] of this.#rooms) {
      if (entry.joined && !entry.since) this.#unresumable.add(room);
      entry.joined = false;
    }
    this.connection = null;
    for (const ref of [...this.#questions.keys()]) this.#answer(ref, null, new CallboardError("disconnected", "the connection broke before the answer"));
  }

  #comeBack(code, reason) {
    const renewable = reason === "expired" && typeof this.#token === "function";
    const delay = reconnectDelay(renewable ? 1006 : code, this.#attempt++);
    if (delay === null) {
      this.#enter({ state: "closed", code, reason });
      return this.#forgetWishes();
    }
    this.#retryTimer = setTimeout(() => this.#connect(), delay);
    this.#enter({ state: "waiting", code, reason, delay });
  }

  #forgetWishes() {
    for (const entry of this.#rooms.values()) entry.wish?.reject(new CallboardError("disconnected", "the connection is closed"));
  }

  #enter(state) {
    this.state = state.state;
    this.#emit("callboard:state", state);
  }

  /** A listener that throws is reported as the page's error and hinders no other listener. */
  #emit(name, ...values) {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(...values);
      } catch (error) {
        if (globalThis.reportError) globalThis.reportError(error);
        else console.error(error);
      }
    }
  }
}

const NOTICES = new Set(["welcome", "joined", "left", "gap", "presence", "error"]);

/** A join that someone waits for. Nobody has to: its rejection is no unhandled one. */
class Wish {
  constructor() {
    this.promise = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    this.promise.catch(() => {});
  }
}

/** The console page: one room, heard over both wires side by side, and a place to publish. Wires are in their own files. */

import { Callboard } from "./callboard.js";
import { duration, Panel } from "./panel.js";
import { readData, recipes, shellQuote } from "./recipes.js";
import { EventStream } from "./stream.js";

/** Own publishes that may still arrive; only their time-stamps are by this page's clock. */
const MOST_STAMPS = 500;
/** How often a screen reader hears of news at most. */
const ANNOUNCE_EVERY = 4_000;

const find = (selector) => document.querySelector(selector);
const hub = new URL(".", document.baseURI);
hub.search = "";

const live = { news: new Map(), timer: null };
const stamps = new Set();
const members = { users: new Map(), anonymous: 0, timer: null };
let room = new URL(location.href).searchParams.get("room")?.trim() || "demo";
let recipeId = "curl";
/** @type {EventStream | null} */ let stream = null;
/** @type {Callboard | null} */ let board = null;
let streamStatus = 0;

const ssePanel = new Panel(find("#streams"), { title: "Server-Sent Events", toggle: (on) => (on ? openStream() : stream?.close()), announce });
const wsPanel = new Panel(find("#streams"), { title: "WebSocket", toggle: (on) => (on ? openBoard() : board?.close()), announce });

/** Tells screen readers, together with whatever else happens in the next moments; of each subject only the newest. */
function announce(subject, say) {
  live.news.set(subject, say);
  live.timer ??= setTimeout(() => {
    find("#live").textContent = [...live.news.values()].map((each) => each()).join(". ");
    Object.assign(live, { news: new Map(), timer: null });
  }, ANNOUNCE_EVERY);
}

/** What a refusal means and what helps. */
function adviceFor(status, message = "") {
  const help = {
    401: "Enter a valid token under Credentials; “callboard token --user you” makes one. Or let everyone in: [auth] anonymous = true.",
    403: `The room's [[room]] rule decides who may join; “callboard token --user you --join ${room}” makes a token that may.`,
    503: "The hub is full or about to restart; it has said when to come back.",
  }[status];
  return help && `${message} ${help}`;
}

function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1).replace(/\.?$/, ".")}` : "";
}

/* The SSE half */

function openStream() {
  stream?.close();
  const url = new URL("sse", hub);
  url.searchParams.set("room", room);
  ssePanel.request(`GET ${url.pathname}${url.search}`);
  if (find("#token").value) url.searchParams.set("token", find("#token").value);
  stream = new EventStream(url, showBlock, showStreamState);
}

function showBlock(block, lines) {
  const raw = lines.join("\n");
  const kind = { "callboard:gap": "gap", "callboard:presence": "notice" }[block.event];
  if (block.retry !== undefined && block.data === null) return ssePanel.add({ name: "retry", raw, kind: "notice" });
  if (block.data === null) return ssePanel.heard();
  const data = readData(block.data);
  if (block.event === "callboard:presence") memberChange(data);
  ssePanel.add({ name: block.event, raw, kind, took: tookFor(data) });
}

function showStreamState({ state, status, message, delay }) {
  streamStatus = state === "open" ? 200 : (status ?? streamStatus);
  const away = state === "waiting" && !status;
  const advice = adviceFor(status, sentence(message));
  const said = status === 503 ? "The hub takes no one now" : advice ? `Refused (${status})` : sentence(message).slice(0, -1);
  const text = away && message !== "the stream ended" ? "The hub is away" : said;
  ssePanel.state({ state, text, delay, advice });
}

/* The WebSocket half */

function openBoard() {
  board?.close();
  const url = new URL("ws", hub);
  url.searchParams.set("room", room);
  wsPanel.request(`GET ${url.pathname}${url.search}  Upgrade: websocket`);
  board = new Callboard("ws", { rooms: [room], token: find("#token").value || undefined });
  board.on("callboard:frame", showFrame);
  board.on("callboard:gap", showLocalGap);
  board.on("callboard:presence", memberChange);
  board.on("callboard:joined", () => loadMembers());
  board.on("callboard:state", showBoardState);
}

const NOTICE_KINDS = { gap: "gap", error: "problem" };

function showFrame(raw) {
  const frame = readData(raw);
  if (frame?.type === "pong") return wsPanel.heard();
  if (frame?.type !== "event") return wsPanel.add({ name: frame?.type ?? "unreadable", raw, kind: NOTICE_KINDS[frame?.type] ?? "notice" });
  const where = frame.room === room ? "" : frame.user ? "to you" : `in ${frame.room}`;
  wsPanel.add({ name: frame.event, raw, where, took: tookFor(frame.data) });
}

/** The client notices by itself that a room could not be resumed; the hub's own notices have been shown as frames. */
function showLocalGap(gap) {
  if (gap.local) wsPanel.add({ name: "gap", raw: JSON.stringify(gap), kind: "gap" });
}

const REASONS = {
  draining: "The hub is restarting",
  going_away: "The hub is stopping",
  slow_consumer: "This page read too slowly",
  expired: "The token has expired",
  disconnected: "The hub ended it",
  policy: "Refused by a rule of the hub",
};

function showBoardState({ state, code, reason, delay }) {
  const refused = streamStatus === 401 || streamStatus === 403;
  const broken = refused ? "Refused" : "The hub is away";
  const text = code === 1006 ? broken : (REASONS[reason] ?? (sentence(reason).slice(0, -1) || `Closed with code ${code}`));
  const advice = code === 1006 && refused ? "A browser does not say why; the reason that Server-Sent Events got is beside this one." : undefined;
  wsPanel.state({ state, text, delay, advice: code === 1008 ? adviceFor(401, sentence(reason)) : advice });
}

/* Who is in the room */

function memberChange({ room: where, joined = [], left = [] }) {
  if (where && where !== room) return;
  for (const user of joined) members.users.set(user, members.users.get(user) ?? 1);
  for (const user of left) members.users.delete(user);
  showMembers();
  clearTimeout(members.timer);
  members.timer = setTimeout(loadMembers, 1_000);
}

/** The notices name users only; how many connections there are stands in the API, for those who may ask it. */
async function loadMembers() {
  const asked = room;
  const response = await fetch(new URL(`api/rooms/${encodeURIComponent(room)}`, hub), { headers: apiHeaders() }).catch(() => null);
  if (!response?.ok || asked !== room) return;
  const body = await response.json().catch(() => ({}));
  members.users = new Map((body.members ?? []).map(({ user, connections }) => [user, connections]));
  members.anonymous = typeof body.anonymous === "number" ? body.anonymous : 0;
  showMembers();
}

function showMembers() {
  const people = [...members.users].slice(0, 12).map(([user, count]) => (count > 1 ? `${user} ×${count}` : user));
  if (members.users.size > people.length) people.push(`${members.users.size - people.length} more`);
  if (members.anonymous > 0) people.push(`${members.anonymous} anonymous`);
  find("#presence").hidden = people.length === 0;
  find("#presence").textContent = `Signed in: ${people.join(", ")}`;
}

/* Publishing */

function apiHeaders() {
  const key = find("#key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function draft() {
  return { room, event: find("#event").value || "message", data: readData(find("#data").value) };
}

const isObject = (data) => typeof data === "object" && data !== null && !Array.isArray(data);

function stamped(publish) {
  if (!find("#timed").checked || !isObject(publish.data)) return publish;
  const now = Math.round((performance.timeOrigin + performance.now()) * 10) / 10;
  stamps.add(now);
  if (stamps.size > MOST_STAMPS) stamps.delete(stamps.values().next().value);
  return { ...publish, data: { ...publish.data, sent_at: now } };
}

/** Only this page's own stamps are by this page's clock. */
function tookFor(data) {
  return isObject(data) && stamps.has(data.sent_at) ? Math.max(0, performance.timeOrigin + performance.now() - data.sent_at) : undefined;
}

async function publish() {
  const overHttp = find("input[name=via]:checked").value === "http";
  const start = performance.now();
  try {
    const answer = await (overHttp ? publishOverHttp : publishOverBoard)(stamped(draft()));
    const reached = answer.delivered === undefined ? "" : ` Connections reached on this node: ${answer.delivered}.`;
    showOutcome(`Accepted in ${duration(performance.now() - start)}.${reached}`);
  } catch (error) {
    showOutcome(publishAdvice(error), true);
  }
}

function publishOverBoard({ room: where, event, data }) {
  return board.publish(where, event, data);
}

async function publishOverHttp(body) {
  const headers = { "Content-Type": "application/json", ...apiHeaders() };
  const response = await fetch(new URL("api/publish", hub), { method: "POST", headers, body: JSON.stringify(body) }).catch(() => {
    throw Object.assign(new Error("the hub is away"), { code: "disconnected" });
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const { message = `the hub answered ${response.status}`, code } = answer.error ?? {};
  throw Object.assign(new Error(message), { code, status: response.status });
}

function publishAdvice({ code, status, message }) {
  if (code === "disconnected") return "Not published: the hub is away. Nothing is kept back; publish again when it is there.";
  const said = `Not published: ${sentence(message)}`;
  if (status === 401 || status === 403) return `${said} The API wants a key of [api] keys; enter it under Credentials.`;
  if (code === "forbidden") return `${said} The room's [[room]] rule says who may publish; rooms “demo…” let their members.`;
  return said;
}

function showOutcome(text, isError = false) {
  find("#outcome").textContent = text;
  find("#outcome").classList.toggle("alert", isError);
}

/* The same publish from elsewhere */

function showRecipe() {
  const publish = draft();
  find("#data-kind").textContent = typeof publish.data === "string" ? "plain text" : "JSON";
  find("#timed").disabled = !isObject(publish.data);
  const all = recipes(publish, hub);
  const chosen = all.find(({ id }) => id === recipeId);
  if (find("#tabs").childElementCount === 0) find("#tabs").append(...all.map(tab));
  for (const element of find("#tabs").children) {
    const isChosen = element.id === `tab-${recipeId}`;
    element.setAttribute("aria-selected", isChosen);
    element.tabIndex = isChosen ? 0 : -1;
  }
  find("#recipe").setAttribute("aria-labelledby", `tab-${recipeId}`);
  find("#code").textContent = chosen.code;
  find("#note").textContent = chosen.note;
  find("#hear").textContent = `curl -N ${shellQuote(new URL(`sse?room=${encodeURIComponent(room)}`, hub).href)}`;
  find("#move").hidden = recipeId !== "django" || room === "sse";
}

function tab({ id, label }) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", id: `tab-${id}`, textContent: label, role: "tab" });
  button.setAttribute("aria-controls", "recipe");
  button.onclick = () => choose(id);
  return button;
}

function choose(id) {
  recipeId = id;
  showRecipe();
}

function moveAlongTabs(event) {
  const tabs = [...find("#tabs").children];
  const at = tabs.findIndex(({ id }) => id === `tab-${recipeId}`);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = tabs.at(to % tabs.length);
  choose(next.id.slice(4));
  next.focus();
}

async function copy() {
  try {
    await navigator.clipboard.writeText(find("#code").textContent);
    find("#copy").textContent = "Copied";
  } catch {
    // Plain http on another machine's address is no secure context: leave it selected instead.
    getSelection().selectAllChildren(find("#code"));
    find("#copy").textContent = "Selected";
  }
  setTimeout(() => (find("#copy").textContent = "Copy"), 2_000);
}

/* The page */

function listen(to) {
  room = to;
  find("#room").value = room;
  find("#credentials").open = false;
  const page = new URL(location.href);
  page.searchParams.set("room", room);
  history.replaceState(null, "", page);
  document.title = `${room} · Callboard`;
  Object.assign(members, { users: new Map(), anonymous: 0 });
  showMembers();
  ssePanel.clear();
  wsPanel.clear();
  openStream();
  openBoard();
  showRecipe();
}

find("#hub").textContent = `${hub.host}${hub.pathname.replace(/\/$/, "")}`;
find("#listen").addEventListener("submit", (event) => (event.preventDefault(), listen(find("#room").value.trim() || "demo")));
find("#publish").addEventListener("submit", (event) => (event.preventDefault(), publish()));
find("#publish").addEventListener("input", showRecipe);
find("#data").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("#publish").requestSubmit();
});
find(".calls").addEventListener("click", ({ target }) => {
  if (!target.dataset.call) return;
  find("#data").value = JSON.stringify({ text: target.dataset.call });
  showRecipe();
});
find("#tabs").addEventListener("keydown", moveAlongTabs);
find("#move").addEventListener("click", () => listen("sse"));
find("#credentials").addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  find("#credentials").open = false;
  find("#credentials summary").focus();
});
find("#copy").addEventListener("click", copy);
listen(room);

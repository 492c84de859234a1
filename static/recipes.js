/** The same publish in every language a publisher is likely to speak. Pure text: nothing here touches the page or the network. */

/** Where the embedded broker listens for Redis commands unless `[broker] resp` says otherwise. */
const RESP_PORT = 6380;
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** Quotes for a POSIX shell. @param {string} text */
export function shellQuote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A JSON value as a Python expression. @param {unknown} value @returns {string} */
export function pythonLiteral(value) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const pairs = Object.entries(value).map(([key, entry]) => `${JSON.stringify(key)}: ${pythonLiteral(entry)}`);
  return `{${pairs.join(", ")}}`;
}

/** What someone typed: JSON when it is JSON, else the text itself. @param {string} text */
export function readData(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The shortest text that `readData` and the command line read back as this value. @param {unknown} data */
function commandLineData(data) {
  return typeof data === "string" && readData(data) === data ? data : JSON.stringify(data);
}

/**
 * @typedef {{ room: string, event: string, data: unknown }} Publish
 * @typedef {{ id: string, label: string, note: string, code: string }} Recipe
 */

/** @param {Publish} publish @param {URL} hub where this page came from @returns {Recipe[]} */
export function recipes(publish, hub) {
  return [curl(publish, hub), redisCli(publish), commandLine(publish), python(publish), django(publish), browser(publish)];
}

function curl({ room, event, data }, hub) {
  const key = LOOPBACK.has(hub.hostname) ? "" : ` -H "Authorization: Bearer $CALLBOARD_KEY" \\\n `;
  const body = shellQuote(JSON.stringify({ room, event, data }));
  return {
    id: "curl",
    label: "curl",
    note: key ? "From another machine the hub wants a key of [api] keys." : "On this machine no key is needed, unless [api] keys names some.",
    code: `curl ${shellQuote(new URL("api/publish", hub).href)} \\\n ${key} -H 'Content-Type: application/json' \\\n  -d ${body}`,
  };
}

function redisCli({ room, event, data }) {
  const channel = shellQuote(`callboard:room:${room}`);
  return {
    id: "redis",
    label: "redis-cli",
    note: `Port ${RESP_PORT} is the embedded broker, on the hub's own machine. With a Redis of yours, leave “-p ${RESP_PORT}” out.`,
    code: `redis-cli -p ${RESP_PORT} PUBLISH ${channel} \\\n  ${shellQuote(JSON.stringify({ event, data }))}`,
  };
}

function commandLine({ room, event, data }) {
  const name = event === "message" ? "" : ` --event ${shellQuote(event)}`;
  const text = commandLineData(data);
  const separator = text.startsWith("-") ? "-- " : "";
  return {
    id: "callboard",
    label: "callboard",
    note: "The hub's own binary, with the same config.toml.",
    code: `callboard publish --room ${shellQuote(room)}${name} \\\n  ${separator}${shellQuote(text)}`,
  };
}

function python({ room, event, data }) {
  return {
    id: "python",
    label: "Python",
    note: `With redis-py. Port ${RESP_PORT} is the embedded broker; with a Redis of yours, its URL instead.`,
    code: [
      "import json, redis",
      "",
      `hub = redis.Redis.from_url("redis://127.0.0.1:${RESP_PORT}")`,
      `hub.publish(${JSON.stringify(`callboard:room:${room}`)}, json.dumps({`,
      `    "event": ${JSON.stringify(event)},`,
      `    "data": ${pythonLiteral(data)},`,
      "}))",
    ].join("\n"),
  };
}

function django({ event, data }) {
  const isText = typeof data === "string";
  return {
    id: "django",
    label: "Django",
    note: "django-sse publishes to the Redis channel “sse”, which the hub gives to the room “sse”.",
    code: [
      `# settings.py: REDIS_SSEQUEUE_CONNECTION_SETTINGS = {"location": "127.0.0.1:${RESP_PORT}", "db": 0}`,
      ...(isText ? [] : ["import json"]),
      "from django_sse.redisqueue import send_event",
      "",
      `send_event(${JSON.stringify(event)}, ${isText ? JSON.stringify(data) : `json.dumps(${pythonLiteral(data)})`})`,
    ].join("\n"),
  };
}

function browser({ room, event, data }) {
  const place = JSON.stringify(room);
  return {
    id: "browser",
    label: "Browser",
    note: "The client that this page uses: one file, no build step.",
    code: [
      `import { Callboard } from "/static/callboard.js";`,
      "",
      `const board = new Callboard("/ws", { rooms: [${place}] });`,
      `await board.join(${place});`,
      `await board.publish(${place}, ${JSON.stringify(event)}, ${JSON.stringify(data)});`,
    ].join("\n"),
  };
}

/** The console's pure parts: reading an event stream, and writing a publish in other languages. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { pythonLiteral, readData, recipes, shellQuote } from "../../static/recipes.js";
import { BlockReader, parseBlock } from "../../static/stream.js";

const AWKWARD = { room: `it's "here" $HOME`, event: "it's", data: { text: "don't `stop` \\ \"now\"\n$(exit)", flags: [true, null, 1.5, "é🎭"] } };

/** What a shell would hand to the program: its arguments, without running it. */
function shellArguments(code) {
  const script = `curl() { printf '%s\\0' "$@"; }; redis-cli() { curl "$@"; }; callboard() { curl "$@"; }\n${code}`;
  return execFileSync("bash", ["-c", script], { encoding: "utf8" }).split("\0").slice(0, -1);
}

const recipe = (id, publish, hub = "http://127.0.0.1:8080/") => recipes(publish, new URL(hub)).find((one) => one.id === id).code;

test("a stream is cut into the same blocks wherever its chunks end", () => {
  const text = "retry: 3000\n\nid: 1\r\nevent: e\r\ndata: a\r\ndata: b\r\n\r\ndata: c\r\rdata:\n\n";
  const whole = new BlockReader().push(text);
  assert.deepEqual(whole.map((lines) => parseBlock(lines).data), [null, "a\nb", "c", ""]);
  for (let at = 0; at <= text.length; at += 1) {
    const reader = new BlockReader();
    assert.deepEqual([...reader.push(text.slice(0, at)), ...reader.push(text.slice(at))], whole, `cut at ${at}`);
  }
});

test("a keep-alive comment counts without an empty line after it, half an event does not", () => {
  const reader = new BlockReader();
  assert.deepEqual(reader.push(":\n"), []);
  assert.deepEqual(reader.takeLooseLines(), [":"]);
  reader.push("event: e\n");
  assert.deepEqual(reader.takeLooseLines(), []);
  assert.deepEqual(reader.push("data: 1\n\n"), [["event: e", "data: 1"]]);
});

test("fields lose one leading space and no more, and an id with NUL is none", () => {
  assert.deepEqual(parseBlock(["data:  x", "id: a\0b", "retry: soon", ": note"]), { event: "message", data: " x", id: undefined, retry: undefined });
});

test("text that is no JSON is data as it is", () => {
  assert.deepEqual(["{\"a\":1}", "12", "hello", ""].map(readData), [{ a: 1 }, 12, "hello", ""]);
});

test("a shell hands on exactly what was published", () => {
  for (const text of ["", "-n", "~", "it's", "a b", "$HOME", "!", "demo"]) assert.deepEqual(shellArguments(`curl ${shellQuote(text)}`), [text]);
  assert.deepEqual(JSON.parse(shellArguments(recipe("curl", AWKWARD)).at(-1)), AWKWARD);
  const [, , verb, channel, payload] = shellArguments(recipe("redis", AWKWARD));
  assert.deepEqual([verb, channel], ["PUBLISH", `callboard:room:${AWKWARD.room}`]);
  assert.deepEqual(JSON.parse(payload), { event: AWKWARD.event, data: AWKWARD.data });
  assert.deepEqual(JSON.parse(shellArguments(recipe("callboard", AWKWARD)).at(-1)), AWKWARD.data);
});

test("the command line gets text as text, and text that looks like JSON in quotes", () => {
  const last = (data) => shellArguments(recipe("callboard", { room: "r", event: "message", data })).at(-1);
  assert.equal(last("hello"), "hello");
  assert.equal(last("12"), '"12"');
});

test("python says True, False and None", () => {
  assert.equal(pythonLiteral({ a: [true, false, null], b: "x'y" }), `{"a": [True, False, None], "b": "x'y"}`);
});

test("curl asks for a key only where the hub would", () => {
  const publish = { room: "r", event: "e", data: 1 };
  assert.ok(!recipe("curl", publish).includes("CALLBOARD_KEY"));
  const away = recipe("curl", publish, "https://hub.example/push/");
  assert.match(away, /^curl https:\/\/hub\.example\/push\/api\/publish /);
  assert.match(away, /Bearer \$CALLBOARD_KEY/);
});

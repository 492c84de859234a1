// Every client that listens to the default room of the hubs named by the arguments: a real browser over four ways, the Node
// packages, and curl. Prints a JSON line for each event, [client, name, data], and "ready" once all are connected.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { PATIENCE, launch } from "./chromium.mjs";

const require = createRequire(import.meta.url);
const NAMES = ["myevent", "imported", "imported_too", "message", "end", "callboard:gap"];
const report = (client, name, data) => console.log(JSON.stringify([client, name, data]));

/** Resolves when an EventSource of any make is open; from then on its events are reported. */
function follow(client, source) {
  for (const name of NAMES) source.addEventListener(name, (event) => report(client, name, event.data));
  return new Promise((resolve) => source.addEventListener("open", resolve));
}

function eventsource(version, url) {
  const found = require(version);
  return new (found.EventSource ?? found)(url);
}

function fetchEventSource(client, url) {
  globalThis.window ??= globalThis;
  const { fetchEventSource: start } = require("@microsoft/fetch-event-source");
  return new Promise((resolve, reject) => {
    const onmessage = (event) => report(client, event.event || "message", event.data);
    start(url, { fetch, openWhenHidden: true, onopen: async () => resolve(), onmessage, onerror: reject });
  });
}

function curl(client, url) {
  const child = spawn("curl", ["--no-buffer", "--silent", url], { stdio: ["ignore", "pipe", "inherit"] });
  process.on("exit", () => child.kill());
  let rest = "";
  return new Promise((resolve) => {
    child.stdout.setEncoding("utf8").on("data", (text) => {
      resolve();
      const blocks = (rest + text).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const values = (field) => block.split("\n").filter((line) => line.startsWith(`${field}: `)).map((line) => line.slice(field.length + 2));
        report(client, values("event")[0] ?? "message", values("data").join("\n"));
      }
    });
  });
}

/** Runs in the page. Data of a WebSocket is JSON where that of a stream is its text. */
function followInPage(names) {
  const open = (source) => new Promise((resolve) => source.addEventListener("open", resolve));
  const follow = (client, source) => {
    for (const name of names) source.addEventListener(name, (event) => window.report(client, name, event.data));
    return open(source);
  };
  const socket = new WebSocket(`ws://${location.host}/ws`);
  const joined = new Promise((resolve) => {
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === "joined") resolve();
      if (frame.type === "event") window.report("WebSocket", frame.event, typeof frame.data === "string" ? frame.data : JSON.stringify(frame.data));
    };
  });
  return Promise.all([
    joined,
    follow("EventSource", new EventSource("/sse")),
    follow("the article's polyfill", new window.PostedEventSource("/sse/")),
    follow("event-source-polyfill", new window.EventSourcePolyfill("/sse")),
  ]);
}

async function page(browser, place, hub) {
  const tab = await browser.newPage();
  await tab.goto(`${hub}/healthz`, { timeout: PATIENCE });
  await tab.exposeFunction("report", (client, name, data) => report(`${client} in Chromium ${place}`, name, data));
  await tab.addScriptTag({ path: fileURLToPath(new URL("polyfill.js", import.meta.url)) });
  await tab.addScriptTag({ path: require.resolve("event-source-polyfill/src/eventsource.js") });
  await tab.evaluate(followInPage, NAMES);
}

const browser = await launch();
const hubs = process.argv.slice(2);
await Promise.all(
  hubs.flatMap((hub, number) => {
    const place = `at ${number}`;
    const versions = ["eventsource2", "eventsource3", "eventsource4"];
    return [
      page(browser, place, hub),
      ...versions.map((version) => follow(`${version} ${place}`, eventsource(version, `${hub}/sse`))),
      fetchEventSource(`fetch-event-source ${place}`, `${hub}/sse`),
      curl(`curl ${place}`, `${hub}/sse`),
    ];
  }),
);
console.log("ready");

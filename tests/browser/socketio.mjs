// The article's page and Socket.IO's own clients in a real browser, over every transport, on a page of the hub itself and on one
// of another site. Arguments: the hub, the port for the other site, "all" or "article" for its page alone. Prints a JSON line for each event, [client, name, arguments],
// and that a client is ready once it has joined and speaks over the transport that it was to speak over.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { PATIENCE, launch } from "./chromium.mjs";

const require = createRequire(import.meta.url);
const [hub, port, which] = process.argv.slice(2);
const site = `http://127.0.0.1:${port}`;
const NEW = "sioc4/dist/socket.io.js";
const MIDDLE = "sioc2/dist/socket.io.js";
const OLD = "sioc0/dist/socket.io.js";

// Another port is another origin.
const server = createServer((request, response) => response.end("<!doctype html><title>another site</title>"));
await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
const browser = await launch();

/** A tab with pools of connections of its own: a browser allows six to a host, and polls hold theirs. */
async function open(place, client, script) {
  const context = await browser.createBrowserContext();
  const tab = await context.newPage();
  tab.on("pageerror", (error) => console.log(`${client} failed: ${error}`));
  await tab.goto(place, { timeout: PATIENCE });
  await tab.exposeFunction("report", (name, args) => console.log(JSON.stringify([client, name, args])));
  await tab.addScriptTag({ path: require.resolve(script) });
  return tab;
}

const within = { timeout: PATIENCE, polling: 50 };

async function ready(tab) {
  await tab.waitForFunction(() => window.hasJoined, within);
  console.log("a page is ready");
}

/** The article's own code; only what it logs to is ours. */
async function article(place, name) {
  const tab = await open(place, `the article's page, ${name}`, OLD);
  await tab.evaluate(() => {
    console.log = (what, values) => {
      if (what === "joined") window.hasJoined = values[0] === "default_room";
      if (what === "<myevent> event") window.report("myevent", JSON.stringify([...values]));
    };
  });
  const code = readFileSync(new URL("article.js", import.meta.url), "utf8");
  await tab.addScriptTag({ content: place.startsWith(hub) ? code : code.replace("io.connect('',", `io.connect('${hub}',`) });
  await ready(tab);
}

async function old(place, name, transport) {
  const tab = await open(place, `0.9 over ${transport}, ${name}`, OLD);
  await tab.evaluate(
    (url, transport) => {
      io.transports = [transport];
      window.socket = io.connect(url);
      socket.on("connect", () => socket.emit("subscribe", "default_room"));
      socket.on("joined", (room) => (window.hasJoined = room === "default_room"));
      socket.on("myevent", (...values) => window.report("myevent", JSON.stringify(values)));
    },
    hub,
    transport,
  );
  await tab.waitForFunction((transport) => socket.socket.transport?.name === transport, within, transport);
  await ready(tab);
}

async function current(place, name, transports) {
  const tab = await open(place, `4.8 over ${transports.join(" and ")}, ${name}`, NEW);
  await connect(tab, { transports, withCredentials: true });
  await tab.waitForFunction((transport) => socket.io.engine.transport.name === transport, within, transports.at(-1));
  await ready(tab);
}

async function scripted(place, name) {
  const tab = await open(place, `2.5 over scripts, ${name}`, MIDDLE);
  await connect(tab, { transports: ["polling"], forceJSONP: true });
  await tab.waitForFunction(() => socket.io.engine.transport.script, within);
  await ready(tab);
}

async function connect(tab, options) {
  await tab.evaluate(
    (url, options) => {
      window.socket = io(url, options);
      socket.on("connect", () => socket.emit("subscribe", "default_room"));
      socket.on("joined", (room) => (window.hasJoined = room === "default_room"));
      socket.on("myevent", (...values) => window.report("myevent", JSON.stringify(values)));
    },
    hub,
    options,
  );
}

/** A page that nobody allowed loads the scripts of both handshakes as its own. What it hears is told as an event too many. */
async function stranger(policy) {
  const tab = await (await browser.createBrowserContext()).newPage();
  await tab.goto(site.replace("127.0.0.1", "localhost"));
  const heard = await tab.evaluate(
    async (hub, policy) => {
      const heard = [];
      window.___eio = [(text) => heard.push(text)];
      window.io = { j: [(text) => heard.push(text)] };
      for (const path of ["?EIO=3&transport=polling&j=0", "1/?jsonp=0"]) {
        const script = Object.assign(document.createElement("script"), { src: `${hub}/socket.io/${path}`, referrerPolicy: policy });
        await new Promise((resolve) => {
          script.onload = script.onerror = resolve;
          document.head.append(script);
        });
      }
      return heard;
    },
    hub,
    policy,
  );
  heard.forEach((text) => console.log(JSON.stringify([`a stranger's page with ${policy}`, "script", JSON.stringify(text)])));
}

const clients = (place, name) => [
  ...["websocket", "xhr-polling", "jsonp-polling"].map((transport) => old(place, name, transport)),
  ...[["websocket"], ["polling"], ["polling", "websocket"]].map((transports) => current(place, name, transports)),
  scripted(place, name),
];
const places = [
  [`${hub}/healthz`, "at home"],
  [site, "elsewhere"],
];
await Promise.all(["unsafe-url", "no-referrer"].map(stranger));
await Promise.all(places.flatMap(([place, name]) => [article(place, name), ...(which === "all" ? clients(place, name) : [])]));

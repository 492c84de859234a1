// What the scripts beside this one share: a socket.io-client of any version, and the hub's HTTP API. Their arguments begin with
// PACKAGE URL TRANSPORT[,TRANSPORT] [API], the last where the HTTP API is not at URL. They exit 0 when all of it happened, and say on stderr what did not.
"use strict";

const http = require("node:http");
const [name, url, transportList, api = url] = process.argv.slice(2);
const io = require(require.resolve(name, { paths: [process.env.CALLBOARD_TEST_NODE_MODULES] }));
const transports = transportList.split(",");
const isLegacy = name === "sioc0";
const agent = new http.Agent({ keepAlive: true });

// Of all that one script does; only a failure waits for its end.
const PATIENCE = 240000;

setTimeout(() => fail("gave up waiting"), PATIENCE).unref();

let step = "start";

/** What goes on from here, as text or as a function that says how far it is; a failure names it. */
function begin(what) {
  step = what;
}

function fail(reason) {
  process.stderr.write(`${name} over ${transportList}, at "${typeof step === "function" ? step() : step}": ${reason}\n`);
  process.exit(1);
}

function check(condition, reason) {
  if (!condition) fail(reason);
}

function open(namespace, options = {}, at = url) {
  const settings = isLegacy
    ? { transports, "force new connection": true, "reconnection delay": 50, "max reconnection attempts": 1000, ...options }
    : { transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 100, ...options };
  return isLegacy ? io.connect(at + namespace, settings) : io(at + namespace, settings);
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
    const request = http.request(api + path, options, (response) => {
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

/** Until the condition holds; the clock above ends what never does. */
async function until(condition) {
  while (!condition()) await new Promise((done) => setTimeout(done, 10));
}

function run(main) {
  main().then(
    () => process.exit(0),
    (error) => fail(error.stack),
  );
}

module.exports = { begin, call, check, isLegacy, join, name, once, open, post, run, transportList, transports, until, url };

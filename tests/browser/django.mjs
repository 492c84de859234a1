// A user of examples/django: logs in, hears the greeting in two tabs, logs out and is known no more. Arguments: Django's URL, the hub's.
import assert from "node:assert/strict";
import { PATIENCE, launch } from "./chromium.mjs";

const [site, hub] = process.argv.slice(2);
const browser = await launch();
// A tab in the background draws no frames to poll by.
const within = { timeout: PATIENCE, polling: 100 };

async function open() {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.goto(site, { waitUntil: "domcontentloaded" });
  return page;
}

const stateIs = (page, state) =>
  page.waitForFunction((wanted) => document.getElementById("state").textContent === wanted, within, state);
const hears = (page, text) =>
  page.waitForFunction((wanted) => document.getElementById("events").textContent.includes(wanted), within, text);

const first = await open();
assert.equal(new URL(first.url()).pathname, "/login/");
const state = (page, url) =>
  page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const source = new EventSource(`${url}/sse`, { withCredentials: true });
        source.onopen = () => resolve("open");
        source.onerror = () => resolve(source.readyState === EventSource.CLOSED ? "refused" : "reconnecting");
      }),
    url,
  );
assert.equal(await state(first, hub), "refused", "before the login");

await first.type("input[name=username]", "alice");
await first.type("input[name=password]", "a-password");
await Promise.all([first.waitForNavigation(within), first.click("button")]);
assert.equal(await first.$eval("#name", (name) => name.textContent), "alice");
await stateIs(first, "connected");
const second = await open();
await stateIs(second, "connected");
await second.click("#greet button");
await Promise.all([hears(first, "hello alice"), hears(second, "hello alice")]);

await first.bringToFront();
await Promise.all([first.waitForNavigation(within), first.click("#logout")]);
assert.equal(new URL(first.url()).pathname, "/login/");
assert.equal(await state(first, hub), "refused", "after the logout");
await browser.close();
console.log("the user was known while logged in");

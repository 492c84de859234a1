// The console page in a real browser: both halves connect, and what its button publishes appears in both. Argument: the hub.
import assert from "node:assert/strict";
import { PATIENCE, launch } from "./chromium.mjs";

const [hub] = process.argv.slice(2);
const PANELS = "#streams .panel";
const browser = await launch();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("requestfailed", (request) => faults.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("request", (request) => request.url().startsWith(hub) || request.url().startsWith("data:") || faults.push(`asks elsewhere: ${request.url()}`));
  await page.goto(`${hub}/?room=demo`);
  const state = () => page.$$eval(PANELS, (panels) => panels.map((panel) => panel.dataset.state));
  const rows = (count) =>
    page.waitForFunction(
      (panels, least) => [...document.querySelectorAll(panels)].every((panel) => panel.querySelectorAll(".row.event").length === least),
      {},
      PANELS,
      count,
    );
  await page.waitForFunction(
    (panels) => [...document.querySelectorAll(panels)].filter((panel) => panel.dataset.state === "open").length === 2,
    {},
    PANELS,
  );
  await page.click("#publish button.main");
  await rows(1);
  await page.click("#publish label:has(input[value=http])");
  await page.click("#publish button.main");
  await rows(2);
  const outcome = await page.$eval("#outcome", (element) => element.textContent);
  assert.match(outcome, /^Accepted in .* Connections reached on this node: 2\.$/);
  const frames = await page.$$eval(`${PANELS} .row.event .frame`, (elements) => elements.map((element) => element.textContent));
  assert.equal(frames.length, 4);
  for (const frame of frames) assert.match(frame, /Half an hour, please/);
  assert.deepEqual(await state(), ["open", "open"]);
  assert.deepEqual(faults, []);
  console.log("the console works");
} finally {
  await browser.close();
}

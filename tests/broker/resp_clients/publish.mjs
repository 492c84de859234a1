// Publishes through a Node client as applications do. Arguments: package (ioredis, redis4, redis5), host, port, password.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// `import` doesn't look into NODE_PATH, `require` does.
const require = createRequire(import.meta.url);
const [name, host, port, password] = process.argv.slice(2);
const numbers = [0, 1, 2];

async function viaIoredis() {
  const Redis = require("ioredis");
  const client = new Redis({ host, port: Number(port), password: password || undefined, db: 1, connectionName: "publisher" });
  const first = await client.publish("room", "one");
  assert.equal(await client.publish("room", Buffer.from("é\r\n\0")), first + 1);
  const fill = (pipeline, word) => numbers.forEach((number) => pipeline.publish("room", `${word} ${number}`)) ?? pipeline;
  const counts = (from) => numbers.map((number) => [null, from + number]);
  assert.deepEqual(await fill(client.pipeline(), "piped").exec(), counts(first + 2));
  assert.deepEqual(await fill(client.multi(), "queued").exec(), counts(first + 5));
  assert.equal(await client.client("GETNAME"), "publisher");
  await assert.rejects(client.get("key"), /not Redis/);
  await assert.rejects(client.subscribe("room"), /SSE or WebSocket/);
  assert.equal(await client.quit(), "OK");
}

async function viaNodeRedis(options) {
  const { createClient } = require(name);
  const url = `redis://${password ? `:${password}@` : ""}${host}:${port}/1`;
  const client = createClient({ url, name: "publisher", pingInterval: 1000, ...options });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  const first = await client.publish("room", "one");
  assert.equal(await client.publish("room", Buffer.from("é\r\n\0")), first + 1);
  const piped = await Promise.all(numbers.map((number) => client.publish("room", `piped ${number}`)));
  assert.deepEqual(piped, numbers.map((number) => first + 2 + number));
  const multi = client.multi();
  numbers.forEach((number) => multi.publish("room", `queued ${number}`));
  assert.deepEqual(await multi.exec(), numbers.map((number) => first + 5 + number));
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.clientGetName(), "publisher");
  await assert.rejects(client.get("key"), /not Redis/);
  await client.quit();
}

if (name === "ioredis") {
  await viaIoredis();
} else {
  await viaNodeRedis({});
  if (name === "redis5") await viaNodeRedis({ RESP: 3 });
}

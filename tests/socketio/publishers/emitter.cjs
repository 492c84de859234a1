// Emits as a backend with @socket.io/redis-emitter does: node emitter.cjs PORT STEPS
// STEPS: JSON list of {namespace?, rooms?, except?, event, args}.
"use strict";

const [port, steps] = process.argv.slice(2);
const paths = [process.env.CALLBOARD_TEST_NODE_MODULES];
const { Emitter } = require(require.resolve("@socket.io/redis-emitter", { paths }));
const Redis = require(require.resolve("ioredis", { paths }));

const redis = new Redis(Number(port), "127.0.0.1");
const io = new Emitter(redis);
for (const { namespace = "/", rooms = [], except = [], event, args = [] } of JSON.parse(steps)) {
  io.of(namespace).to(rooms).except(except).emit(event, ...args);
}
redis.quit();

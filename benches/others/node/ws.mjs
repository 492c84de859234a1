// npm ws with rooms, as its manual does a broadcast: node ws.mjs PORT
import { WebSocketServer } from "ws";
import { listen } from "./publish.mjs";

const rooms = new Map();
const server = listen(Number(process.argv[2]), (room, data) => {
  const message = Buffer.from(`{"type":"event","room":"${room}","event":"bench","data":${data}}`);
  for (const socket of rooms.get(room) ?? []) socket.send(message, { binary: false });
});

new WebSocketServer({ server, path: "/ws" }).on("connection", (socket, request) => {
  const room = new URL(request.url, "http://localhost").searchParams.get("room");
  if (!rooms.has(room)) rooms.set(room, new Set());
  rooms.get(room).add(socket);
  socket.on("close", () => rooms.get(room).delete(socket));
  socket.on("error", () => {});
  socket.send(JSON.stringify({ type: "joined", room }));
});

// npm socket.io, as its manual does rooms: node socketio.mjs PORT
import { Server } from "socket.io";
import { listen } from "./publish.mjs";

let io;
const server = listen(Number(process.argv[2]), (room, data) => io.to(room).emit("bench", JSON.parse(data)));
io = new Server(server, { serveClient: false });

io.on("connection", (socket) => {
  socket.on("subscribe", (room) => {
    socket.join(room);
    socket.emit("joined", room);
  });
});

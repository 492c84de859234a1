// A page whose hub goes away and comes back: it subscribes at each connect, as the article's does, and says what it hears.
// Prints "joined" and "heard DATA"; never ends by itself.
"use strict";

const { open, url } = require("./client.cjs");

const socket = open("", { timeout: 2000, "connect timeout": 2000, "reconnection limit": 200 }, url);
socket.on("connect", () => socket.emit("subscribe", "demo-return"));
socket.on("joined", () => console.log("joined"));
socket.on("disconnect", (reason) => console.log("gone", reason));
socket.on("back", (data) => console.log("heard", data));

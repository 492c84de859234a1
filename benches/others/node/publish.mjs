// `POST /publish?room=R` with a JSON string as its body, the same for both servers; nagle off, as everywhere here.
import { createServer } from "node:http";

export function listen(port, publish) {
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://localhost");
    let body = "";
    request.setEncoding("utf8");
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      publish(url.searchParams.get("room"), body);
      response.writeHead(200, { "content-length": 0 }).end();
    });
  });
  server.on("connection", (socket) => socket.setNoDelay(true));
  server.keepAliveTimeout = 3_600_000;
  server.listen({ port, host: "127.0.0.1", backlog: 4096 });
  return server;
}

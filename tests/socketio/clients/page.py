"""What a page does, with python-socketio's client: page.py URL TRANSPORT[,TRANSPORT] [API]. Exits 0 when all of it happened."""

import json
import queue
import sys
import urllib.request

import socketio

PATIENCE = 120
EVENTS = 200

url, transports = sys.argv[1], sys.argv[2].split(",")
api = sys.argv[3] if len(sys.argv) > 3 else url


def publish(body, path="publish"):
    request = urllib.request.Request(f"{api}/api/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        assert response.status == 200


client = socketio.Client(reconnection=False)
arrived = queue.Queue()
for namespace in ("/", "/chat"):
    for name in ("joined", "left", "count", "blob"):
        client.on(name, lambda *args, name=name, namespace=namespace: arrived.put((namespace, name, args)), namespace=namespace)

client.on("disconnect", lambda reason: arrived.put(("disconnect", reason)))
client.connect(url, transports=transports, namespaces=["/", "/chat"], wait_timeout=PATIENCE)
assert client.call("subscribe", "demo", timeout=PATIENCE) == {"ok": True}
assert arrived.get(timeout=PATIENCE) == ("/", "joined", ("demo",))
assert client.call("subscribe", "lobby", namespace="/chat", timeout=PATIENCE) == {"ok": True}
assert arrived.get(timeout=PATIENCE) == ("/chat", "joined", ("lobby",))

# At once: its polls take 16 packets each and no more.
publish([{"room": "demo", "event": "count", "data": number} for number in range(EVENTS)], "batch")
# Its order is not the wire's: the client handles each event on a thread of its own.
counted = [arrived.get(timeout=PATIENCE) for _ in range(EVENTS)]
assert sorted(counted) == [("/", "count", (number,)) for number in range(EVENTS)], counted

publish({"room": "chat/lobby", "event": "count", "args": [1, {"a": "é"}]})
assert arrived.get(timeout=PATIENCE) == ("/chat", "count", (1, {"a": "é"}))

blob = bytes(range(256)) * 4096
client.emit("blob", ("demo", {"part": blob}))
assert arrived.get(timeout=PATIENCE) == ("/", "blob", ({"part": blob},))

answer = client.call("count", ("closed", 1), timeout=PATIENCE)
assert answer["error"]["code"] == "forbidden", answer
client.disconnect()

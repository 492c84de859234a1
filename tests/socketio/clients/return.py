"""A page whose hub goes away and comes back, as return.cjs: return.py URL TRANSPORT[,TRANSPORT]."""

import sys

import socketio

client = socketio.Client(reconnection_delay=0.05, reconnection_delay_max=0.1)
client.on("connect", lambda: client.emit("subscribe", "demo-return"))
client.on("joined", lambda room: print("joined", flush=True))
client.on("back", lambda data: print("heard", data, flush=True))
client.connect(sys.argv[1], transports=sys.argv[2].split(","), wait_timeout=120)
client.wait()

"""Emits as a backend with python-socketio's write-only RedisManager does: python write_only.py PORT STEPS

STEPS: a JSON list of [method, positional arguments, named arguments].
"""

import json
import sys

import socketio

port, steps = sys.argv[1:]
publisher = socketio.RedisManager(f"redis://127.0.0.1:{port}/0", write_only=True)
for method, positional, named in json.loads(steps):
    if method == "disconnect":
        # A write-only manager would first look for the client in its own server, and has none: servers publish this.
        publisher._publish({"method": "disconnect", "host_id": publisher.host_id, **named})
    else:
        getattr(publisher, method)(*positional, **named)

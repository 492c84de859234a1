"""Publishes as applications do, with the packages as PyPI has them: `send`, `emit` and `room` from this process, `queue`
through a Celery worker. Arguments: the way, how many."""

import json
import sys

way, count = sys.argv[1], int(sys.argv[2])

if way == "send":
    from django_sse.redisqueue import send_event

    for number in range(count):
        send_event("myevent", json.dumps({"n": number, "text": "é漢\n"}))
elif way == "emit":
    from article import emit_to_channel

    for number in range(count):
        emit_to_channel("sse", "myevent", number)
elif way == "room":
    from article import emit_to_channel

    for number in range(count):
        emit_to_channel("default_room", "myevent", number, {"text": "é漢😀\u2028"})
elif way == "queue":
    from tasks import import_contacts

    for number in range(count):
        import_contacts.delay(number)
else:
    sys.exit(f"no such way: {way}")

"""Publishes through redis-py as applications do. Arguments: host, port, password (may be empty)."""

import asyncio
import os
import sys

import redis
import redis.asyncio

host, port, password = sys.argv[1], int(sys.argv[2]), sys.argv[3]
major = redis.__version__.split(".")[0]
assert major == os.environ["EXPECTED_MAJOR"], redis.__version__


def options(protocol):
    chosen = {"db": 1, "client_name": "publisher", "health_check_interval": 1, "password": password or None}
    if protocol and major != "4":  # redis-py 4 speaks RESP2 only
        chosen["protocol"] = protocol
    if protocol and major == "5" and password:  # it sends the PING before HELLO's AUTH, which Redis refuses too
        del chosen["health_check_interval"]
    return chosen


def fill(pipeline, word):
    for number in range(3):
        pipeline.publish("room", f"{word} {number}")
    return pipeline


def check_counts(counts, first):
    assert counts == [first, first + 1, first + 2], counts


def publish(client):
    first = client.publish("room", "one")
    assert client.publish("room", "é\r\n\0".encode()) == first + 1
    check_counts(fill(client.pipeline(transaction=False), "piped").execute(), first + 2)
    check_counts(fill(client.pipeline(), "queued").execute(), first + 5)
    assert client.ping() is True
    assert client.client_getname() in ("publisher", b"publisher")
    assert client.info()["loading"] == 0
    try:
        client.get("key")
    except redis.ResponseError as error:
        assert "not Redis" in str(error), error
    else:
        raise AssertionError("GET was answered")
    subscriber = client.pubsub()
    subscriber.subscribe("room")
    try:
        subscriber.get_message(timeout=120)
    except redis.ResponseError as error:
        assert "SSE or WebSocket" in str(error), error
    else:
        raise AssertionError("SUBSCRIBE was answered")
    client.close()


async def publish_async(client):
    first = await client.publish("room", "one")
    await client.publish("room", "é\r\n\0".encode())
    check_counts(await fill(client.pipeline(transaction=False), "piped").execute(), first + 2)
    check_counts(await fill(client.pipeline(), "queued").execute(), first + 5)
    await client.connection_pool.disconnect()


for version in (None, 2, 3):
    publish(redis.Redis(host=host, port=port, **options(version)))
    asyncio.run(publish_async(redis.asyncio.Redis(host=host, port=port, **options(version))))
publish(redis.Redis.from_url(f"redis://{':' + password + '@' if password else ''}{host}:{port}/0", client_name="publisher"))
if password:
    try:
        redis.Redis(host=host, port=port, password="wrong").publish("room", "stolen")
    except redis.AuthenticationError:
        pass
    else:
        raise AssertionError("a wrong password was taken")

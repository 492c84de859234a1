"""All that Django needs to know of Callboard, with the standard library alone."""

import base64
import hashlib
import hmac
import json
import time
import urllib.request

from django.conf import settings


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _sign(message: str) -> str:
    return _base64url(hmac.new(settings.CALLBOARD_SECRET.encode(), message.encode(), hashlib.sha256).digest())


def token(user: str, ttl: int = 3600, **grants: list[str]) -> str:
    """A token for `user`; `join` and `publish` are lists of room patterns."""
    claims = {"sub": user, "exp": int(time.time()) + ttl, **grants}
    parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    return ".".join([*parts, _sign(".".join(parts))])


def signed_room(name: str, ttl: int = 3600) -> str:
    """What `?signed=` takes: lets any reader of a page into one room."""
    expiry = int(time.time()) + ttl
    signature = _sign(f"room\n{expiry}\n{name}")
    return f"{name}~{expiry}~{signature}"


def publish(event: str, data, **to) -> int:
    """Pushes an event to `room=` or `user=`; returns how many connections of the hub got it."""
    body = json.dumps({"event": event, "data": data, **to}).encode()
    request = urllib.request.Request(f"{settings.CALLBOARD_URL}/api/publish", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)["delivered"]

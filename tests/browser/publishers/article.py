"""The article's emit_to_channel, on a pool of connections as its own is.

From "Django push: Using Server-Sent Events and WebSocket with Django" by Flavio Curella.
"""

import json

from django.conf import settings
from redis import ConnectionPool, Redis

broker = settings.WEBSOCKET_REDIS_BROKER
pool = ConnectionPool(host=broker["HOST"], port=broker["PORT"], db=broker["DB"])


def redis_connection():
    return Redis(connection_pool=pool)


def emit_to_channel(channel, event, *data):
    r = redis_connection()
    args = [channel] + list(data)
    r.publish('socketio_%s' % channel, json.dumps({'name': event, 'args': args}))

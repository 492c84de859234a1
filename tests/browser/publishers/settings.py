"""Django's settings as the article has them: where its two publishers find Redis. CALLBOARD_TEST_REDIS is host:port."""

import os

location = os.environ["CALLBOARD_TEST_REDIS"]
host, port = location.split(":")

SECRET_KEY = "only for tests"
REDIS_SSEQUEUE_CONNECTION_SETTINGS = {"location": location, "db": 0}
WEBSOCKET_REDIS_BROKER = {"HOST": host, "PORT": int(port), "DB": 0}

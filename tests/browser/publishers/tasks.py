"""The article's scenario: contacts are imported by a Celery task, which tells the user's browser. Celery's own queue is at
CALLBOARD_TEST_CELERY, which is always a real Redis."""

import json
import os

from celery import Celery
from django_sse.redisqueue import send_event

from article import emit_to_channel

app = Celery("tasks", broker=os.environ["CALLBOARD_TEST_CELERY"])
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)


@app.task
def import_contacts(number):
    send_event("imported", json.dumps({"n": number, "by": "celery"}))
    emit_to_channel("sse", "imported_too", number)

"""A client that sends the whole of a body before it reads: what it is refused with, it sees."""

import http.client
import json
import os
from urllib.parse import urlsplit

base = urlsplit(os.environ["BASE"])
JSON = {"Content-Type": "application/json"}


def answer(connection, method, path, body=None):
    connection.request(method, path, body, JSON if body else {})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


for size in [20_000, 60_000, 200_000, 2_000_000]:
    for _ in range(5):
        connection = http.client.HTTPConnection(base.hostname, base.port, timeout=30)
        status, problem = answer(connection, "POST", "/mirrory/generate-token", b" " * size)
        assert (status, problem["error"]) == (413, "body_too_large"), (size, status, problem)
        # It opens another one by itself, if it was told that this one closes.
        status, _ = answer(connection, "GET", "/livez")
        assert status == 200, (size, status)
        connection.close()

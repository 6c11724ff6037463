"""Python's own HTTP clients against the broker: http_client.py http://127.0.0.1:8080

Every check is a claim about the broker. Exit status 0 if all hold, 1 otherwise.
"""

import http.client
import json
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

STEP = 20.0  # seconds for one thing to arrive
BASE = sys.argv[1]


def events(path):
    """A stream of events that has begun; its lines come after the head."""
    request = urllib.request.Request(BASE + path, headers={"Accept": "text/event-stream"})
    stream = urllib.request.urlopen(request, timeout=STEP)
    assert stream.status == 200 and stream.headers["Content-Type"] == "text/event-stream", stream.headers
    assert stream.readline().startswith(b"retry: ") and stream.readline() == b"\n"
    return stream


def main():
    stream = events("/t/python%2F%23")

    # urllib: a connection for each request.
    request = urllib.request.Request(BASE + "/t/python/a", data=b'{"a":1}', headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=STEP) as answer:
        assert (answer.status, json.load(answer)) == (202, {"topic": "python/a"})
    assert stream.readline() == b'data: {"a":1}\n' and stream.readline() == b"\n"

    # http.client: all on one, and a body in chunks whose length nobody knows before.
    kind = http.client.HTTPSConnection if BASE.startswith("https") else http.client.HTTPConnection
    connection = kind(urlsplit(BASE).netloc, timeout=STEP)
    connection.connect()
    socket = connection.sock
    for number in range(50):
        body = (part for part in (b"part ", str(number).encode()))
        connection.request("POST", "/t/python/b", body, {"Content-Type": "text/plain"}, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)) == (202, {"topic": "python/b"})
        assert connection.sock is socket, "the connection stays"
        assert stream.readline() == f"data: part {number}\n".encode() and stream.readline() == b"\n"

    try:
        urllib.request.urlopen(urllib.request.Request(BASE + "/t/a%2F%23", data=b"x"), timeout=STEP)
        raise AssertionError("nothing is published to a filter")
    except urllib.error.HTTPError as error:
        assert (error.code, json.load(error)["error"]["code"]) == (400, "bad_topic")


main()

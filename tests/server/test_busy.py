"""A server on which more ask than may wait."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import closing
from pathlib import Path

from tests.conftest import RunningServer, StartServer


def begun(server: RunningServer, body: dict[str, object]) -> http.client.HTTPConnection:
    """A connection over which ``body`` has been asked."""
    connection = http.client.HTTPConnection(server.address.host, server.address.port, timeout=60)
    connection.request("POST", "/api/generate", json.dumps(body))
    return connection


def queue_depth(server: RunningServer) -> int:
    connection = http.client.HTTPConnection(server.address.host, server.address.port, timeout=60)
    connection.request("GET", "/metrics")
    found = re.search(
        r"^corral_engine_queue_depth\{.*\} ([0-9.]+)$", connection.getresponse().read().decode(), re.MULTILINE
    )
    connection.close()
    return int(float(found[1])) if found else 0


def test_who_is_too_many_is_told_when_to_come_again(serve: StartServer, endless: Path) -> None:
    server = serve(endless, CORRAL_NUM_PARALLEL="1", CORRAL_MODEL_QUEUE="1", CORRAL_CONTEXT_LENGTH="16384")
    asked = {"model": "endless", "prompt": "[7]", "raw": True}
    with closing(begun(server, asked)) as first, closing(first.getresponse()) as answer:
        assert answer.readline()
        with closing(begun(server, asked)) as second:
            while queue_depth(server) < 1:
                pass
            with closing(begun(server, asked)) as third, closing(third.getresponse()) as refusal:
                assert refusal.status == 503
                assert int(refusal.headers["retry-after"]) >= 1
                error = json.loads(refusal.read())["error"]
                assert error == (
                    "server busy, please try again.  maximum pending requests exceeded (this one would be number 2)"
                )
            answer.close()
            first.close()
            with closing(second.getresponse()) as its_turn:
                assert its_turn.readline()

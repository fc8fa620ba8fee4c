"""A server is watched with its whole family, and none of it is left behind."""

import os
import sys
from pathlib import Path

import pytest

from tests.bench.processes import (
    Server,
    ServerError,
    alive,
    cpu_seconds,
    family,
    free_port,
    resident_mib,
    rss_mib,
)

# Serves, and has a child in a session of its own that has work to do.
SERVING = """
import http.server, subprocess, sys
child = "print(sum(range(10 ** 7)), flush=True); input()"
worker = subprocess.Popen([sys.executable, "-c", child], start_new_session=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
worker.stdout.readline()
place, answer = ("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(place, answer).serve_forever()
"""


def server(code: str, place: Path) -> Server:
    port = free_port()
    return Server(
        command=[sys.executable, "-c", code, str(port)],
        env=dict(os.environ),
        port=port,
        cwd=place,
        ready="/",
    )


def test_a_family_is_counted_whole_and_gone_afterwards(tmp_path: Path) -> None:
    with server(SERVING, tmp_path) as running:
        members = family(running.pid)
        assert len(members) == 2
        assert running.ready_s > 0
        child = next(pid for pid in members if pid != running.pid)
        assert cpu_seconds(running.pid) > cpu_seconds(child) > 0
        assert resident_mib(running.pid) > rss_mib(child) / 2 > 0
    assert [pid for pid in members if alive(pid)] == []


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="no model"),
        server("raise SystemExit('no model')", tmp_path),
    ):
        pass

"""A contestant is measured only if it answers rightly; ONNX Runtime alone on a real model."""

import json
import sys
from pathlib import Path

import pytest

from tests.bench import contestants, measurement, wire
from tests.bench.contestants import Contestant, Kind
from tests.bench.measurement import ROOT, AnswerError, measured, started, trials
from tests.bench.rows import Row

# Says that every image is a 7, with the port, a free one and a folder given on the command line.
SEVEN = """
import http.server, pathlib, sys
port, other, folder, status = sys.argv[1:]
assert port != other and pathlib.Path(folder).is_dir()
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(status))
        self.send_header("Content-Length", "12")
        self.end_headers()
        self.wfile.write(b'{"label": 7}')
http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Answer).serve_forever()
"""


def seven(status: int = 200, label: int = 7) -> Contestant:
    kind = Kind(
        "PNG",
        (wire.png("/", b"png"),),
        ((label,),),
        lambda answer: (int(json.loads(answer)["label"]),),
    )
    return Contestant(
        name="seven",
        command=(sys.executable, "-c", SEVEN, "{port}", "{other_port}", "{folder}", str(status)),
        kinds=(kind,),
        ready="/",
        variants=({"A": "1"}, {"A": "2"}),
    )


def measure(one: Contestant, place: Path) -> list[Row]:
    rows, _ = measured(one, place, 1.0, (1,), lambda row: None)
    return rows


def test_rows_of_a_server_that_is_right(tmp_path: Path) -> None:
    (row,) = measure(seven(), tmp_path)
    assert row.requests_s > 0
    assert row.server_cpu_s > 0
    assert not row.note


@pytest.mark.parametrize(
    ("status", "label", "said"), [(200, 8, r"is \(8,\), not \(7,\)"), (503, 7, "503")]
)
def test_wrong_answers_are_not_measured(status: int, label: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match=said):
        measure(seven(status, label), tmp_path)


def test_every_variant_is_tried(tmp_path: Path) -> None:
    found = list(trials(seven(), tmp_path))
    assert [trial.variant for trial in found] == [{"A": "1"}, {"A": "2"}]
    assert all(trial.requests_s > 0 for trial in found)


def test_the_shell_sets_up_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARALLAX_MAX_BATCH", "1")
    with started(seven()) as server:
        assert "PARALLAX_MAX_BATCH" not in server.env


def test_the_runtime_alone() -> None:
    model = contestants.newest(ROOT / "models", "mnist") / "model.onnx"
    rows = list(measurement.bare(Path(sys.executable), model, 2, 0.01, (1, 3)))
    assert [(row.kind, row.images, row.clients) for row in rows] == [
        ("batch 1", 1, 1),
        ("batch 3", 3, 1),
        ("batch 1", 1, 2),
        ("batch 3", 3, 2),
    ]
    assert all(row.images_s > 0 and row.server_cpu_s > 0 for row in rows)

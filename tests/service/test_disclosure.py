"""With `disclose=verdict` no answer holds what a probe could climb; the document says so, too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service import cli
from service.app import create_app
from tests.service.conftest import MakeSettings
from tests.service.toy import ATTACKED, NATURAL, ToyFolder, calibrated, unsure

PNG = {"Content-Type": "image/png"}
PATHS = ("/detect", "/classify")
HIGH = unsure(1, 1, 1)  # the ways agree, and the score is above both thresholds


@pytest.fixture
def discreet(toy: ToyFolder, settings_of: MakeSettings) -> Iterator[TestClient]:
    toy.changes["decision"] = calibrated()
    toy.write()
    settings = settings_of(disclose="verdict", policy="score")
    with TestClient(create_app(settings)) as client:
        yield client


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with where it stands, places in lists left out."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from leaves(value, f"{path}.{name}".lstrip("."))
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value, path)
    else:
        yield path, node


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("image", "verdict", "use"),
    [
        (NATURAL, "accept", {"label": 1, "class_name": "dog"}),
        (ATTACKED, "corrected", {"label": 1, "class_name": "dog"}),
        (HIGH, "reject", None),
    ],
)
def test_the_whole_answer(
    discreet: TestClient, path: str, image: bytes, verdict: str, use: dict[str, Any] | None
) -> None:
    expected = {
        "model": {"name": "toy", "version": 1},
        "policy": "score",
        "verdict": verdict,
        "resized": False,
    }
    answer = discreet.post(path, content=image, headers=PNG).json()
    assert answer == expected | ({"use": use} if use else {})


@pytest.mark.parametrize("path", PATHS)
def test_no_number_leaks(discreet: TestClient, path: str) -> None:
    """Whatever is sent: the only numbers are of the model's version, the label and a problem."""
    cut = NATURAL[:-3]
    files = [("file", ("x", image, "image/png")) for image in (NATURAL, ATTACKED, HIGH, cut)]
    several = discreet.post(path, files=files)
    alone = [discreet.post(path, content=image, headers=PNG) for image in (HIGH, cut, b"")]
    found: dict[str, set[type]] = {}
    for answer in (several, *alone):
        for place, value in leaves(answer.json()):
            found.setdefault(place.removeprefix("results.").removeprefix("error."), set()).add(
                type(value)
            )
    numbers = {place for place, types in found.items() if types & {int, float}}
    assert numbers == {"model.version", "use.label", "status"}
    assert float not in set().union(*found.values())
    assert len(several.json()["results"]) == 4


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", ["policy=strict", "policy=score", "fpr=0.01", "top_k=1"])
def test_nobody_but_the_operator_chooses_the_threshold(
    discreet: TestClient, path: str, query: str
) -> None:
    """A verdict at each of several rates is a score."""
    answer = discreet.post(f"{path}?{query}", content=NATURAL, headers=PNG)
    assert answer.status_code == 422
    assert answer.json()["code"] == "parameter-refused"
    told = discreet.post(f"{path}?version=1&strict_size=true", content=NATURAL, headers=PNG)
    assert told.status_code == 200


def test_models_do_not_tell_what_they_decide_by(discreet: TestClient, client: TestClient) -> None:
    (told,) = discreet.get("/models").json()["models"]
    (full,) = client.get("/models").json()["models"]
    assert full.keys() - told.keys() == {"decision"}


def test_metrics_do_not_tell_scores(discreet: TestClient, client: TestClient) -> None:
    """Else one reads them before a probe and after it."""

    def families(reader: TestClient) -> set[str]:
        reader.post("/detect", content=ATTACKED, headers=PNG)
        lines = reader.get("/metrics").text.splitlines()
        return {line.split()[2] for line in lines if line.startswith("# TYPE")}

    hidden = families(client) - families(discreet)
    assert {"parallax_score", "parallax_detections_total", "parallax_adversarial_rate"} <= hidden
    assert families(discreet) >= {"parallax_images_total", "parallax_requests_total"}
    assert "parallax_score" not in discreet.get("/metrics").text


@pytest.mark.parametrize("path", PATHS)
def test_the_document_is_true(discreet: TestClient, path: str) -> None:
    document = discreet.get("/openapi.json").json()
    operation = document["paths"][path]["post"]
    assert {entry["name"] for entry in operation["parameters"]} == {
        "model",
        "version",
        "strict_size",
    }
    schemas = document["components"]["schemas"]
    told = {"$ref": "#/components/schemas/Verdict"}, {"$ref": "#/components/schemas/Verdicts"}
    success = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert success["anyOf"] == list(told)
    for image in (NATURAL, ATTACKED, HIGH):
        answer = discreet.post(path, content=image, headers=PNG).json()
        assert (
            {*schemas["Verdict"]["required"]}
            <= answer.keys()
            <= {*schemas["Verdict"]["properties"]}
        )
    for name in ("Detection", "Classification", "Ways", "LabelProbability", "DecisionSpec"):
        assert name not in schemas


def test_the_command_line_tells_all(
    toy: ToyFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever may read the model's files learns nothing new from their scores."""
    monkeypatch.setenv("PARALLAX_DISCLOSE", "verdict")
    image = tmp_path / "x.png"
    image.write_bytes(NATURAL)
    flags = ["--models", str(toy.root), "--provider", "cpu", "--threads", "1"]
    assert cli.main(["detect", "--json", str(image), *flags]) == 0
    assert "score" in json.loads(capsys.readouterr().out)

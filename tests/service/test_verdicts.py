"""Policies over HTTP: every verdict and reason, every parameter that cannot be followed."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from tests.service.conftest import MakeSettings
from tests.service.toy import ATTACKED, NATURAL, ToyFolder, calibrated, encode, pixels, unsure

PNG = {"Content-Type": "image/png"}
APART = encode(pixels(2, 1, 1))  # only the standard way names another class
UNSURE = unsure(1, 1, 1)  # all agree; score 0.45, between both thresholds
FAINT = unsure(2, 1, 2)  # robust and non-robust way differ; score 0.55, between both thresholds


@pytest.fixture
def judging(toy: ToyFolder, settings_of: MakeSettings) -> Iterator[TestClient]:
    toy.changes["decision"] = calibrated()
    toy.write()
    with TestClient(create_app(settings_of())) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "image", "verdict", "reason"),
    [
        ("", NATURAL, "accept", None),
        ("", ATTACKED, "corrected", "disagreement"),
        ("policy=eq12", UNSURE, "accept", None),
        ("policy=eq12", FAINT, "corrected", "disagreement"),
        ("policy=score", NATURAL, "accept", None),
        ("policy=score", ATTACKED, "corrected", "disagreement"),
        ("policy=score", UNSURE, "reject", "score"),
        ("policy=score&fpr=0.01", UNSURE, "accept", None),
        ("policy=score", FAINT, "corrected", "disagreement"),
        ("policy=score&fpr=0.01", FAINT, "accept", None),
        ("policy=score", APART, "accept", None),
        ("policy=strict", NATURAL, "accept", None),
        ("policy=strict", ATTACKED, "reject", "disagreement"),
        ("policy=strict", UNSURE, "reject", "score"),
        ("policy=strict&fpr=0.01", UNSURE, "accept", None),
        ("policy=strict&fpr=1e-2", FAINT, "reject", "disagreement"),
        ("policy=strict", APART, "reject", "disagreement"),
    ],
)
@pytest.mark.parametrize("path", ["/detect", "/classify"])
def test_verdicts(
    judging: TestClient, path: str, query: str, image: bytes, verdict: str, reason: str | None
) -> None:
    response = judging.post(f"{path}?{query}", content=image, headers=PNG)
    assert response.status_code == 200
    answer = response.json()
    assert (answer["verdict"], answer.get("reason")) == (verdict, reason)
    policy = query[7:].partition("&")[0] or "eq12"
    assert answer["policy"] == policy
    rate = None if policy == "eq12" else 0.01 if "fpr" in query else 0.1
    assert answer.get("fpr") == rate
    assert answer["threshold"] == {None: 0.5, 0.01: 0.6, 0.1: 0.3}[rate]
    assert ("corrected" in answer) is (verdict == "corrected")
    if verdict == "corrected":
        assert answer["corrected"]["class_name"] == "dog"


def test_doubt_and_thresholds_by_class(toy: ToyFolder, settings_of: MakeSettings) -> None:
    spec = calibrated(score="doubt", policy="score").model_dump()
    spec["thresholds"]["0.1"]["per_class"] = (0.3, 0.3, 1.0)  # never flags an owl
    toy.changes["decision"] = spec
    toy.write()
    with TestClient(create_app(settings_of())) as client:
        dog = client.post("/detect", content=unsure(1, 1, 1), headers=PNG).json()
        owl = client.post("/detect", content=unsure(2, 2, 2), headers=PNG).json()
    assert (dog["verdict"], dog["reason"], dog["threshold"]) == ("reject", "margin", 0.3)
    assert (owl["verdict"], owl["threshold"]) == ("accept", 1.0)
    assert owl["score"] == pytest.approx(dog["score"])


def test_the_mixture_calibrates_where_there_is_one(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    toy.changes["decision"] = {"mixture": {"weight": 0.2, "scale": 5.0, "power": 1.0}}
    toy.write()
    with TestClient(create_app(settings_of())) as client:
        answer = client.post("/detect", content=ATTACKED, headers=PNG).json()
        listed = client.post("/classify", content=ATTACKED, headers=PNG).json()
    assert answer["calibrated_by"] == listed["calibrated_by"] == "mixture"
    assert answer["calibrated"]["label"] == 2  # the robust way has little weight
    assert answer["calibrated"]["probability"] == pytest.approx(0.8, abs=0.01)
    assert answer["corrected"]["label"] == 1
    assert listed["calibrated"] == answer["calibrated"]


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("policy=always", "parameter-refused", "'eq12', 'score' or 'strict'"),
        ("policy=score&fpr=0.02", "parameter-refused", "no threshold for 0.02; known: 0.01, 0.1"),
        ("policy=score&fpr=nan", "parameter-refused", "'fpr'"),
        ("policy=score&fpr=0", "parameter-refused", "'fpr'"),
        ("policy=score&fpr=1", "parameter-refused", "'fpr'"),
        ("policy=score&fpr=1%25", "parameter-refused", "valid number"),
        ("fpr=0.01", "parameter-refused", "eq12 has no rate; ask for score or strict"),
        ("policy=score&policy=eq12", "parameter-refused", "more than once"),
    ],
)
@pytest.mark.parametrize("path", ["/detect", "/classify"])
def test_what_cannot_be_followed(
    judging: TestClient, path: str, query: str, code: str, said: str
) -> None:
    response = judging.post(f"{path}?{query}", content=NATURAL, headers=PNG)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert said in response.json()["detail"]


@pytest.mark.parametrize("policy", ["score", "strict"])
@pytest.mark.parametrize("path", ["/detect", "/classify"])
def test_a_model_without_calibration_has_eq12_only(
    client: TestClient, path: str, policy: str
) -> None:
    response = client.post(f"{path}?policy={policy}", content=NATURAL, headers=PNG)
    assert (response.status_code, response.json()["code"]) == (422, "policy-unavailable")
    assert "known: 'eq12'" in response.json()["detail"]
    assert client.post(f"{path}?policy=eq12", content=NATURAL, headers=PNG).status_code == 200


@pytest.mark.parametrize(
    ("options", "query", "policy", "fpr"),
    [
        ({"policy": "strict"}, "", "strict", 0.1),
        ({"policy": "score", "fpr": 0.01}, "", "score", 0.01),
        ({"policy": "score", "fpr": 0.01}, "fpr=0.1", "score", 0.1),
        ({"policy": "score", "fpr": 0.01}, "policy=eq12", "eq12", None),
        ({"fpr": 0.01}, "policy=strict", "strict", 0.01),
    ],
)
def test_settings_fix_the_default(
    toy: ToyFolder,
    settings_of: MakeSettings,
    options: dict[str, Any],
    query: str,
    policy: str,
    fpr: float | None,
) -> None:
    toy.changes["decision"] = calibrated()
    toy.write()
    with TestClient(create_app(settings_of(**options))) as client:
        answer = client.post(f"/detect?{query}", content=NATURAL, headers=PNG).json()
    assert (answer["policy"], answer.get("fpr")) == (policy, fpr)

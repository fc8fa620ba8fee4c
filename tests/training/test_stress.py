"""The stress test on the model on paper: what it must find, and what it must not claim."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.training import examinee
from training import stress, stress_table
from training.attacks.adaptive import Adaptive
from training.cli import main
from training.config import ConfigError
from training.stress import Stress

CLASSES = ("cat", "dog")


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The robust pixel is 0.3 from its boundary, the other 0.03."""
    settings = Stress(eps=("0.1", "0.31"), steps=12, targets=1)
    return settings(examinee.subject(), quiet())


def fooled(document: dict[str, Any], policy: str) -> list[float]:
    return [12 * result["worst"][policy]["fooled"]["value"] for result in document["results"]]


def test_natural_images(document: dict[str, Any]) -> None:
    """Image 10 is a false alarm, image 11 is wrong in every way."""
    for policy, rejected in (("reject", 1), ("strict", 1), ("correct", 0)):
        shares = document["natural"][policy]
        assert 12 * shares["fooled"]["value"] == pytest.approx(1)
        assert 12 * shares["rejected"]["value"] == pytest.approx(rejected)


@pytest.mark.parametrize("policy", ["reject", "correct", "strict"])
def test_fooled_exactly_where_the_robust_way_can_be_turned(
    document: dict[str, Any], policy: str
) -> None:
    assert fooled(document, policy) == pytest.approx([1, 12])
    near, far = document["results"]
    assert 12 * near["robust_accuracy"]["value"] == pytest.approx(11)
    assert (12 * near["bound"], far["bound"]) == (pytest.approx(1), 1.0)


def test_a_plain_attack_alone_is_held_back(document: dict[str, Any]) -> None:
    """The one on the standard way turns the fragile pixel only; the choice of attacks is worse."""
    near = document["results"][0]
    alone = near["attacks"]["standard way"]["reject"]
    assert 12 * alone["rejected"]["value"] == pytest.approx(11)
    assert set(near["attacks"]) == {
        *("standard way", "robust way", "sum of all ways", "unflagged error", "unanimous ways")
    }


def test_alarms_are_cheap(document: dict[str, Any]) -> None:
    """1/255 does not turn the fragile pixel over, 0.03 does."""
    assert 12 * document["alarm"]["flagged"]["value"] == pytest.approx(1)
    wide = Stress(eps=("0.1",), alarm_eps="0.04", steps=5, targets=1)
    found = wide(examinee.subject(), quiet())["alarm"]
    assert 12 * found["flagged"]["value"] == pytest.approx(12)


def test_checks_pass_and_fail(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check["passed"] for check in document["checks"]] == [True] * 4
    monkeypatch.setattr(Adaptive, "__call__", lambda self, answer, image, label: image)
    found = Stress(eps=("0.1",), steps=1, targets=1)(examinee.subject(), quiet())
    assert found["checks"][0]["passed"] is False
    assert "**FAILED**: with eps 1" in stress_table.render(found)


def test_an_l2_ball_that_holds_every_image(document: dict[str, Any]) -> None:
    """Of radius 1 it does not: the check would blame the attack."""
    subject = examinee.subject()
    attack = replace(subject.header.config.attack, norm="l2", eps="0.2")
    config = replace(subject.header.config, attack=attack)
    subject = replace(subject, header=replace(subject.header, config=config))
    found = Stress(eps=("0.2",), steps=12, targets=1)(subject, quiet())
    assert found["checks"][0]["name"].startswith("with eps 2 ")  # four pixels
    assert [check["passed"] for check in found["checks"]] == [True] * 3
    assert 12 * found["results"][0]["worst"]["strict"]["fooled"]["value"] == pytest.approx(1)


def test_the_same_seed_gives_the_same_figures(document: dict[str, Any]) -> None:
    again = Stress(eps=("0.1", "0.31"), steps=12, targets=1)(examinee.subject(), quiet())
    changing = ("created", "seconds")
    assert {key: again[key] for key in again if key not in changing} == {
        key: document[key] for key in document if key not in changing
    }


def test_a_method_of_one_way_has_no_detector() -> None:
    with pytest.raises(ConfigError, match="three ways"):
        Stress(eps=("0.1",))(examinee.subject("at"), quiet())


def test_table(document: dict[str, Any]) -> None:
    text = stress_table.render(document)
    assert "images: MNIST, test split, 12 drawn by seed 0" in text
    assert "trained against linf 0.1" in text
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| 0")]
    assert [row[1].strip() for row in rows] == ["0", "0.1", "0.31"]
    assert rows[1][4].strip() == "8.3 (1.5 to 35.4)"
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On an untrained network, whose folder gets both files."""
    examinee.write_images(tmp_path / "data", CLASSES)
    source = f"imagefolder:{tmp_path / 'data'}"
    examinee.write_checkpoint(tmp_path / "checkpoint.safetensors", source, CLASSES)
    options = [
        "--data-name",
        "noise",
        "--count",
        "4",
        "--steps",
        "3",
        "--eps",
        "0.1",
        "--eps",
        "16/255",
    ]
    status = main(["stress", str(tmp_path), "--device", "cpu", *options])
    written = json.loads((tmp_path / stress.JSON_FILE).read_text())
    assert [result["eps"] for result in written["results"]] == ["0.1", "16/255"]
    assert written["dataset"] == "noise"
    assert status == int(not all(check["passed"] for check in written["checks"]))
    printed = capsys.readouterr().out
    assert "eps 16/255, in %: robust way" in printed
    assert (tmp_path / stress.TABLE_FILE).exists()


@pytest.mark.parametrize("option", [["--eps", "0"], ["--alarm-eps", "x"], ["--eps", "-1"]])
def test_bad_distances(
    tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stress", str(tmp_path), *option]) == 1
    assert capsys.readouterr().err.count("\n") == 1

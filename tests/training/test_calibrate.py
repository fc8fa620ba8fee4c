"""The stage on the model on paper: what it decides, what it writes and what it refuses."""

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from service.manifest import DecisionSpec
from tests.training import examinee
from tests.training.observations import subject
from tests.training.test_detector import QUICK
from training import calibrate, calibration_table
from training.calibrate import SPLITS, Calibrate, Calibration, CalibrationError, Subjects
from training.cli import main
from training.config import ConfigError
from training.data import SplitName
from training.mixture_fit import Search

SMALL = Search(weights=(0.5, 0.6, 1.0), scales=(0.5, 2.0), powers=(1.0,))
SETTINGS = Calibrate(count=24, steps=3, rounds=1, fit=QUICK, search=SMALL)


def quiet() -> Console:
    return Console(file=io.StringIO())


def subjects(calibration: int = 300) -> Subjects:
    counts: dict[SplitName, int] = {
        "train": 60,
        "validation": 60,
        "calibration": calibration,
        "test": 200,
    }
    return {split: subject(split, count) for split, count in counts.items()}


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return SETTINGS(subjects(), quiet())


def test_the_contract_takes_the_decision(calibration: Calibration) -> None:
    decision = DecisionSpec.model_validate(calibration.document["decision"])
    assert list(decision.thresholds) == ["0.005", "0.01", "0.02", "0.05", "0.1"]
    assert (decision.policy, decision.fpr) == ("eq12", "0.01")
    assert decision.threshold == decision.thresholds["0.01"].value
    assert decision.calibration is not None
    assert decision.calibration.n_images == sum(decision.calibration.histogram.counts) == 300
    assert "needs 999 images" in calibration.document["left_out"]["0.001"]


def test_one_image_in_twenty_is_a_false_alarm(calibration: Calibration) -> None:
    test = calibration.document["test"]
    assert test["natural"]["eq12"]["value"] == pytest.approx(0.05)
    for rate, one in test["kept"].items():
        assert one["realised"]["value"] <= float(rate) + 0.05
        assert one["inside"] == (
            one["promised"][0] <= one["realised"]["value"] <= one["promised"][1]
        )


def test_attacks_are_told_apart(calibration: Calibration) -> None:
    attacks = calibration.document["test"]["attacks"]
    assert list(attacks) == [
        *("standard way", "unflagged error", "unanimous ways", "unnoticed by the head"),
    ]
    for one in attacks.values():
        assert one["n_images"] == 24
    assert attacks["standard way"]["flagged"]["eq12"]["value"] > 0.9
    right = attacks["standard way"]["right"]
    assert right["label switch"]["value"] > right["standard way"]["value"]


def test_only_the_training_split_teaches_and_only_the_test_split_tests() -> None:
    """Other test images change no decision, other calibration images no choice of a score."""
    settings = replace(SETTINGS, rounds=None)
    first = settings(subjects(), quiet()).document
    other = dict(subjects())
    other["test"] = subject("test", 120)
    second = settings(other, quiet()).document
    assert first["decision"] | {"calibration": None} == second["decision"] | {"calibration": None}
    assert first["scores"] == second["scores"]
    assert first["test"] != second["test"]


def test_no_head_where_none_is_wanted(calibration: Calibration) -> None:
    again = replace(SETTINGS, rounds=None)(subjects(), quiet()).document
    assert "head" not in again["scores"]
    assert again["test"]["natural"]["eq12"] == calibration.document["test"]["natural"]["eq12"]


def test_thresholds_by_class() -> None:
    found = replace(SETTINGS, rounds=None, per_class=True)(subjects(), quiet()).document
    decision = DecisionSpec.model_validate(found["decision"])
    assert all(len(one.per_class or ()) == 2 for one in decision.thresholds.values())
    assert "of every class" in found["left_out"]["0.005"]
    text = calibration_table.render(found, dict.fromkeys(("promise", "ways", "labels"), "a.svg"))
    assert "by class" in text


@pytest.mark.parametrize(
    ("changes", "count", "said"),
    [
        ({}, 80, "80 images are too few"),
        ({"fpr": "0.001"}, 300, "a rate of 0.001 needs 999 images; there are 300"),
        ({"per_class": True}, 120, "a rate of 0.01 needs 99 images of every class"),
    ],
)
def test_too_few_images_are_refused(changes: dict[str, Any], count: int, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        replace(SETTINGS, **changes)(subjects(count), quiet())


def test_what_cannot_be_calibrated() -> None:
    one_way: Subjects = {split: subject(split, 20, method="at") for split in SPLITS}
    with pytest.raises(ConfigError, match="three ways"):
        SETTINGS(one_way, quiet())
    with pytest.raises(ConfigError, match=r"'0\.03' is not a rate; known: 0\.001, "):
        Calibrate(fpr="0.03")


def test_writes_report_plots_and_head(calibration: Calibration, tmp_path: Path) -> None:
    path = calibrate.write(calibration, tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "calibration-labels.svg",
        "calibration-promise.svg",
        "calibration-ways.svg",
        "calibration.json",
        "calibration.md",
        "detector.npz",
    ]
    document = json.loads(path.read_text())
    assert document.pop("detector_sha256")
    assert document == json.loads(json.dumps(calibration.document))
    text = (tmp_path / calibrate.TABLE_FILE).read_text()
    for line in calibration_table.summary(document):
        assert f"- {line}" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    for name in ("promise", "ways", "labels"):
        assert f"(calibration-{name}.svg)" in text
    headless = replace(calibration, head=None)
    calibrate.write(headless, tmp_path)
    assert not (tmp_path / calibrate.HEAD_FILE).exists()
    assert json.loads(path.read_text())["detector_sha256"] is None


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From options to files, on the model on paper."""
    made = subjects()
    opened = SimpleNamespace(subject=lambda split, **options: made[split])
    monkeypatch.setattr("training.commands.open_checkpoint", lambda path, **options: opened)
    options = ["--count", "8", "--steps", "2", "--no-head", "--policy", "strict", "--fpr", "0.05"]
    out = tmp_path / "out"
    assert main(["calibrate", "any", "--out", str(out), *options, "--data-name", "Dots"]) == 0
    document = json.loads((out / "calibration.json").read_text())
    assert document["dataset"] == document["decision"]["calibration"]["dataset"] == "Dots"
    assert (document["decision"]["policy"], document["decision"]["fpr"]) == ("strict", "0.05")
    assert "head" not in document["scores"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"{out / 'calibration.json'} and calibration.md beside it"
    assert "at 5 % false alarms flagged of successful attacks" in printed[-3]


def test_faults_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examinee.write_images(tmp_path / "data", ("cat", "dog"))
    path = tmp_path / "checkpoint.safetensors"
    examinee.write_checkpoint(path, f"imagefolder:{tmp_path / 'data'}", ("cat", "dog"))
    for options, said in (
        (["--fpr", "1"], "'1' is not a rate"),
        ([], "cut otherwise than in training"),
    ):
        assert main(["calibrate", str(tmp_path), "--out", str(tmp_path / "new"), *options]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith("parallax-train: ")
        assert said in printed
        assert printed.count("\n") == 1
        assert not (tmp_path / "new").exists()

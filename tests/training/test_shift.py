"""The stage on the model on paper: light turns its fragile pixel first, then its robust one."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from tests.training import examinee
from training import checkpoint, data, shift, shift_table
from training.cli import main
from training.config import ConfigError
from training.corruptions import CORRUPTIONS
from training.shift import Shift
from training.subject import Subject

CLASSES = ("cat", "dog")


def quiet() -> Console:
    return Console(file=io.StringIO())


def calibration() -> Subject:
    """The ten plain images: no false alarm among them."""
    plain = examinee.images().take(slice(10))
    return replace(examinee.subject(), split="calibration", images=plain, index=tuple(range(10)))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return Shift(corruptions=("brightness", "jpeg"))(examinee.subject(), calibration(), quiet())


def of_twelve(document: dict[str, Any], figure: str, name: str = "brightness") -> list[float]:
    return [
        round(12 * result["figures"][figure]["value"], 9)
        for result in document["results"]
        if result["corruption"] == name
    ]


def test_clean_images_come_first(document: dict[str, Any]) -> None:
    """Image 10 is a false alarm, image 11 is wrong in every way."""
    shares = document["natural"]
    assert 12 * shares["false_alarm_rate"]["value"] == pytest.approx(1)
    assert 12 * shares["accuracy_standard"]["value"] == pytest.approx(11)
    assert 12 * shares["accuracy_corrected"]["value"] == pytest.approx(11)
    low, high = shares["false_alarm_rate"]["interval"]
    assert low < 1 / 12 < high


def test_light_on_paper(document: dict[str, Any]) -> None:
    """0.08 to 0.25 turn the dark images' fragile pixel, 0.35 and 0.45 their robust one as well."""
    assert of_twelve(document, "false_alarm_rate") == [6, 6, 6, 0, 0]
    assert of_twelve(document, "accuracy_standard") == [7] * 5
    assert of_twelve(document, "accuracy_robust") == [11, 11, 11, 7, 7]
    assert of_twelve(document, "accuracy_nonrobust") == [7] * 5
    assert of_twelve(document, "accuracy_corrected") == [11, 11, 11, 7, 7]


def test_thresholds_are_of_the_calibration_images(document: dict[str, Any]) -> None:
    """Twelve images would leave none of themselves above their own 1 % threshold."""
    assert 12 * document["natural"]["alarm_rate_1"]["value"] == pytest.approx(1)
    assert document["calibration"]["figures"]["alarm_rate_1"]["value"] == 0
    assert document["calibration"]["n_images"] == 10
    assert set(document["thresholds"]) == {"1", "5"}
    moved = replace(calibration(), images=examinee.images().take(slice(10, 11)))
    found = Shift(corruptions=("jpeg",))(examinee.subject(), moved, quiet())
    assert found["thresholds"]["1"] > document["thresholds"]["1"]
    assert found["natural"]["alarm_rate_1"]["value"] == 0


def test_means_over_corruptions(document: dict[str, Any]) -> None:
    for severity, mean in enumerate(document["means"]):
        for figure, share in mean["figures"].items():
            both = [of_twelve(document, figure, name)[severity] for name in ("brightness", "jpeg")]
            assert 12 * share["value"] == pytest.approx(sum(both) / 2)
            low, high = share["interval"]
            assert low <= share["value"] <= high


def test_batches_do_not_matter(document: dict[str, Any]) -> None:
    settings = Shift(corruptions=("brightness", "jpeg"), batch_size=5)
    again = settings(examinee.subject(), calibration(), quiet())
    for key in ("results", "means", "natural", "thresholds"):
        assert again[key] == document[key]


def test_all_corruptions_of_grey_images() -> None:
    found = Shift()(examinee.subject(), calibration(), quiet())
    assert found["absent"] == {"saturate": "grey images have no colours"}
    assert found["settings"]["corruptions"] == [name for name in CORRUPTIONS if name != "saturate"]
    assert len(found["results"]) == 5 * len(found["settings"]["corruptions"])


def test_what_cannot_be_measured() -> None:
    subject = examinee.subject()
    with pytest.raises(ConfigError, match="three ways"):
        Shift()(examinee.subject("at"), calibration(), quiet())
    with pytest.raises(ConfigError, match="measure on another split"):
        Shift()(replace(subject, split="calibration"), calibration(), quiet())
    with pytest.raises(ConfigError, match="'snow' is not a corruption"):
        Shift(corruptions=("snow",))
    with pytest.raises(ConfigError, match="needs colours"):
        Shift(corruptions=("saturate",))(subject, calibration(), quiet())


def test_report(document: dict[str, Any], tmp_path: Path) -> None:
    settings = Shift(corruptions=("brightness", "jpeg"))
    path = shift.write(document, settings.samples(examinee.subject()), tmp_path)
    assert json.loads(path.read_text()) == document
    text = (tmp_path / shift.TABLE_FILE).read_text()
    assert text == shift_table.render(document, shift.PLOT_FILE, shift.SAMPLES_FILE)
    assert "images: MNIST, test split, 12 of 200 images, drawn by seed 0" in text
    assert "saturate is absent: grey images have no colours." in text
    (clean,) = (line for line in text.splitlines() if line.startswith("| 0 |"))
    assert clean.split("|")[2].strip() == "8.3 (1.5 to 35.4)"
    (light, *_) = (line for line in text.splitlines() if line.startswith("| brightness |"))
    assert [cell.split()[0] for cell in light.strip("|").split("|")[1:]] == [
        *("50.0", "50.0", "50.0", "0.0", "0.0")
    ]
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1
    for name in (shift.PLOT_FILE, shift.SAMPLES_FILE):
        assert f"({name})" in text
        assert (tmp_path / name).exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On an untrained network for colour images, whose folder gets all four files."""
    examinee.write_images(tmp_path / "data", CLASSES)
    path = tmp_path / "checkpoint.safetensors"
    examinee.write_checkpoint(path, f"imagefolder:{tmp_path / 'data'}", CLASSES)
    options = ["--data-name", "noise", "--count", "4", "--device", "cpu"]
    assert main(["shift", str(tmp_path), *options]) == 1
    assert "cut otherwise than in training" in capsys.readouterr().err
    saved = checkpoint.load(path)
    digest = data.load(saved.header.config.data).train.digest()
    checkpoint.save(path, replace(saved, header=replace(saved.header, data_sha256=digest)))
    chosen = ["--corruption", "saturate", "--corruption", "fog", "--corruption", "saturate"]
    assert main(["shift", str(tmp_path), *options, *chosen]) == 0
    written = json.loads((tmp_path / shift.JSON_FILE).read_text())
    assert written["settings"]["corruptions"] == ["saturate", "fog"]
    assert (written["dataset"], written["n_images"], written["absent"]) == ("noise", 4, {})
    printed = capsys.readouterr().out
    assert "fog, severity 1 to 5, in %: false alarms " in printed
    assert "shift.json and shift.md beside it" in printed
    with Image.open(tmp_path / shift.SAMPLES_FILE) as sheet:
        assert sheet.mode == "RGB"
    assert (tmp_path / shift.PLOT_FILE).read_text().startswith("<?xml")


def test_a_bad_name_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shift", str(tmp_path), "--corruption", "snow"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("parallax-train: 'snow' is not a corruption; known: ")
    assert printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_positions_are_those_in_the_split() -> None:
    """A smaller sample is corrupted as it is within a larger one."""
    subject = examinee.subject()
    few = replace(subject, images=subject.images.take(slice(3, 7)), index=subject.index[3:7])
    settings = Shift(corruptions=("gaussian-noise",))
    whole = settings._corrupted(subject, "gaussian-noise", 5)
    part = settings._corrupted(few, "gaussian-noise", 5)
    for way, logits in part.items():
        torch.testing.assert_close(torch.from_numpy(logits), torch.from_numpy(whole[way][3:7]))

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from tests.training import examinee
from training import metrics, predict
from training.attacks import setting
from training.config import ConfigError
from training.craft import COLUMNS, Craft
from training.data import to_float
from training.files import OutputError

STRONG = setting.parse("linf:0.1:0.05:10")
QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def crafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "images"
    fooled = Craft(attack=STRONG, batch_size=5)(examinee.subject(), folder, QUIET)
    assert fooled == 12
    return folder


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def levels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_files(crafted: Path) -> None:
    names = [f"{number:05d}.png" for number in range(12)]
    assert sorted(path.name for path in crafted.iterdir()) == ["attacked", "labels.csv", "natural"]
    for kind in ("natural", "attacked"):
        assert sorted(path.name for path in (crafted / kind).iterdir()) == names


def test_natural_images_come_back_pixel_by_pixel(crafted: Path) -> None:
    for number, pixels in enumerate(examinee.images().pixels.numpy()):
        path = crafted / "natural" / f"{number:05d}.png"
        assert np.array_equal(levels(path), pixels[0])
        with Image.open(path) as image:
            assert image.mode == "L"


def test_attacked_images_stay_in_the_ball(crafted: Path) -> None:
    for number in range(12):
        natural, attacked = (
            levels(crafted / kind / f"{number:05d}.png").astype(int)
            for kind in ("natural", "attacked")
        )
        distance = np.abs(attacked - natural)
        assert distance.max() <= 0.1 * 255 + 0.5
        assert distance[0].min() >= 24  # both pixels that are read went to the edge


def test_csv_says_what_was_done(crafted: Path) -> None:
    rows = read(crafted)
    assert tuple(rows[0]) == COLUMNS
    assert [row["kind"] for row in rows] == ["natural"] * 12 + ["attacked"] * 12
    made = ("attacked_way", "norm", "eps", "step_size", "steps")
    for row in rows[:12]:
        assert [row[column] for column in made] == [""] * 5
    for row in rows[12:]:
        assert [row[column] for column in made] == ["standard", "linf", "0.1", "0.05", "10"]
    assert [int(row["index"]) for row in rows] == list(range(100, 112)) * 2
    assert [int(row["label"]) for row in rows] == examinee.images().label.tolist() * 2
    assert (rows[0]["class_name"], rows[11]["class_name"]) == ("dark", "bright")


def test_csv_says_what_each_way_makes_of_the_files(crafted: Path) -> None:
    for row in read(crafted):
        pixels = torch.from_numpy(levels(crafted / row["file"]).copy())[None, None]
        answers = predict.answer(examinee.model(), to_float(pixels), predict.WAYS)
        named = {way: logits.argmax(axis=1) for way, logits in answers.items()}
        assert {way: int(row[way]) for way in predict.WAYS} == {
            way: int(labels[0]) for way, labels in named.items()
        }
        assert row["flagged"] == str(int(named["robust"][0] != named["nonrobust"][0]))
        score = metrics.score(answers["robust"], answers["nonrobust"])[0]
        assert float(row["score"]) == pytest.approx(score, abs=1e-6)
    flags = [row["flagged"] for row in read(crafted)]
    assert flags == ["0"] * 10 + ["1", "0"] + ["1"] * 11 + ["0"]


def test_another_way_can_be_attacked(tmp_path: Path) -> None:
    fooled = Craft(attack=STRONG, way="robust")(examinee.subject(), tmp_path / "out", QUIET)
    assert fooled == 1  # image 11, wrong from the start
    assert read(tmp_path / "out")[12]["attacked_way"] == "robust"


def test_same_seed_same_pixels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Craft(attack=STRONG, seed=3)(examinee.subject(), tmp_path / name, QUIET)
    for number in range(12):
        file = f"attacked/{number:05d}.png"
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_one_way_model(tmp_path: Path) -> None:
    subject = examinee.subject("st")
    Craft(attack=STRONG, way="nonrobust")(subject, tmp_path / "out", QUIET)
    row = read(tmp_path / "out")[0]
    assert (row["standard"], row["robust"], row["nonrobust"]) == ("", "", "0")
    assert (row["flagged"], row["score"]) == ("", "")
    with pytest.raises(ConfigError, match=r"untrained \(method st\); attack nonrobust"):
        Craft(attack=STRONG)(subject, tmp_path / "other", QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folder_that_holds_something(crafted: Path) -> None:
    before = (crafted / "labels.csv").read_text()
    with pytest.raises(OutputError, match="is not empty"):
        Craft(attack=STRONG)(examinee.subject(), crafted, QUIET)
    assert (crafted / "labels.csv").read_text() == before


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.craft._write_png", fail)
    with pytest.raises(KeyboardInterrupt):
        Craft(attack=STRONG)(examinee.subject(), tmp_path / "out", QUIET)
    assert list(tmp_path.iterdir()) == []

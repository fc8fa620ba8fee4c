from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training import examinee
from training import checkpoint, data, subject
from training.checkpoint import CheckpointError
from training.config import ConfigError
from training.data import DataError

CPU = torch.device("cpu")
CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, its data beside the checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    examinee.write_images(folder / "data", CLASSES)
    examinee.write_checkpoint(
        folder / "checkpoint.safetensors", f"imagefolder:{folder / 'data'}", CLASSES
    )
    return folder


def load(path: Path, count: int | None = None, source: str | None = None) -> subject.Subject:
    return subject.open_checkpoint(path, source=source, device=CPU).subject(
        "test", count=count, seed=0
    )


def test_the_whole_split(run: Path) -> None:
    found = load(run)
    assert found.index == tuple(range(12))
    assert (len(found.images), found.available, found.split) == (12, 12, "test")
    assert found.images.label.tolist() == [0] * 6 + [1] * 6
    assert found.ways == ("standard", "robust", "nonrobust")
    assert not found.model.training


def test_held_out_images_are_those_of_the_training(run: Path, tmp_path: Path) -> None:
    """Other images are cut otherwise, and what is held out there may have been trained on."""
    with pytest.raises(DataError, match="its calibration split may hold images"):
        subject.open_checkpoint(run, source=None, device=CPU).subject(
            "calibration", count=None, seed=0
        )
    header = checkpoint.load(run / "checkpoint.safetensors")
    digest = data.load(header.header.config.data).train.digest()
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, replace(header, header=replace(header.header, data_sha256=digest)))
    found = subject.open_checkpoint(path, source=None, device=CPU).subject(
        "calibration", count=None, seed=0
    )
    assert len(found.images) == 1


def test_file_and_folder_are_the_same(run: Path) -> None:
    by_file = load(run / "checkpoint.safetensors")
    assert by_file.header == load(run).header


def test_some_images_are_those_at_the_index(run: Path) -> None:
    some, everything = load(run, count=5), load(run)
    assert len(some.index) == 5
    assert some.available == 12
    assert load(run, count=20).index == everything.index
    chosen = everything.images.take(torch.tensor(some.index))
    assert torch.equal(some.images.pixels, chosen.pixels)


def test_layout_changes_no_answer(run: Path) -> None:
    found = load(run)
    image = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        answers = found.model(image)
        found.model.to(memory_format=torch.contiguous_format)
        plain = found.model(image)
    for one, other in zip(answers, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_samples_grow_into_each_other() -> None:
    small, large = subject.choose(100, 10, 7), subject.choose(100, 30, 7)
    assert set(small) < set(large)
    assert list(large) == sorted(large)
    assert small != subject.choose(100, 10, 8)
    with pytest.raises(ConfigError, match="0 images are too few"):
        subject.choose(100, 0, 7)


def test_one_way_model(tmp_path: Path) -> None:
    examinee.write_images(tmp_path / "data", CLASSES)
    path = tmp_path / "checkpoint.safetensors"
    examinee.write_checkpoint(path, f"imagefolder:{tmp_path / 'data'}", CLASSES, method="st")
    assert load(path).ways == ("nonrobust",)


def test_data_that_has_moved(run: Path, tmp_path: Path) -> None:
    examinee.write_images(tmp_path / "moved", CLASSES)
    source = f"imagefolder:{tmp_path / 'moved'}"
    assert load(run, source=source).source == source


def test_data_that_does_not_fit(run: Path, tmp_path: Path) -> None:
    examinee.write_images(tmp_path / "small", CLASSES, size=10)
    with pytest.raises(DataError, match="has 3x10x10 images; the model takes 3x16x16"):
        load(run, source=f"imagefolder:{tmp_path / 'small'}")
    examinee.write_images(tmp_path / "others", ("cow", "dog"))
    with pytest.raises(DataError, match="other classes"):
        load(run, source=f"imagefolder:{tmp_path / 'others'}")


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read"):
        load(tmp_path)


def test_several_splits_of_one_reading(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = subject.open_checkpoint(run, source=None, device=CPU)
    monkeypatch.setattr(data, "load", lambda config: pytest.fail("read twice"))
    few, many = (opened.subject("test", count=count, seed=0) for count in (5, None))
    assert (len(few.images), len(many.images)) == (5, 12)
    assert few.model is many.model

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.files import OutputError
from training.scratch import Part, Scratch

PART = Part(arrays={"x/y": np.array([1.5, 2.5])}, notes={"seconds": 3.0})


def scratch(place: Path, **belongs: Any) -> Scratch:
    return Scratch(folder=place / "work", belongs={"seed": 0, "index": (1, 2), **belongs})


def test_part_comes_back(tmp_path: Path) -> None:
    work = scratch(tmp_path)
    work.check()
    assert work.get("a/1") is None
    assert not work.begun
    assert list(tmp_path.iterdir()) == []  # nothing before there is something to keep
    work.put("a/1", PART)
    again = scratch(tmp_path)
    again.check()
    found = again.get("a/1")
    assert found is not None
    assert found.notes == PART.notes
    assert list(found.arrays) == ["x/y"]
    assert found.arrays["x/y"].tolist() == [1.5, 2.5]
    assert again.begun
    assert again.get("a/2") is None


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    scratch(tmp_path).put("a", PART)
    with pytest.raises(OutputError, match=r"work holds parts of other work \(seed differ\)"):
        scratch(tmp_path, seed=1).check()
    with pytest.raises(OutputError, match=r"\(more, seed differ\)"):
        scratch(tmp_path, seed=1, more=None, index=[1, 2]).check()


def test_part_of_other_work_is_refused_wherever_it_was_carried(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        scratch(tmp_path / name, seed=seed).put("a", PART)
    (tmp_path / "one/work/a.npz").replace(tmp_path / "two/work/a.npz")
    with pytest.raises(OutputError, match=r"a\.npz belongs to other work"):
        scratch(tmp_path / "two", seed=1).get("a")


def test_part_of_another_name_is_refused(tmp_path: Path) -> None:
    work = scratch(tmp_path)
    work.put("a", PART)
    (work.folder / "a.npz").replace(work.folder / "b.npz")
    with pytest.raises(OutputError, match="belongs to other work"):
        work.get("b")


def test_damaged_part_counts_as_absent(tmp_path: Path) -> None:
    work = scratch(tmp_path)
    work.put("a", PART)
    path = work.folder / "a.npz"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        assert work.get("a") is None
    np.savez(path, other=np.zeros(1))
    assert work.get("a") is None
    work.put("a", PART)
    assert work.get("a") is not None


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_folder_that_does_not_say_what_it_is(tmp_path: Path, content: str) -> None:
    scratch(tmp_path).put("a", PART)
    (tmp_path / "work/belongs.json").write_text(content)
    with pytest.raises(OutputError, match=r"cannot read .*belongs\.json; remove its folder"):
        scratch(tmp_path).check()


def test_discard(tmp_path: Path) -> None:
    work = scratch(tmp_path)
    work.discard()
    work.put("deep/a", PART)
    work.discard()
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "work").touch()
    with pytest.raises(OutputError, match="cannot write"):
        scratch(tmp_path).put("a", PART)

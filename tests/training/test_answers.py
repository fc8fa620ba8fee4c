from pathlib import Path

import numpy as np
import pytest

from training import answers
from training.answers import Answered, attacked_name, natural_name
from training.config import Way
from training.data import DataError

ATTACK = "linf:8/255:2/255:20"  # with slashes of its own


def answered(ways: tuple[Way, ...] = ("standard", "robust", "nonrobust")) -> Answered:
    """Each array holds a number of its own."""
    arrays = {"label": np.array([0, 1]), "index": np.array([7, 9])}
    names = [natural_name(way) for way in ways]
    for attacked in ways:
        for inputs in answers.INPUTS:
            names += [attacked_name(ATTACK, attacked, inputs, way) for way in ways]
    for number, name in enumerate(names):
        arrays[name] = np.full((2, 3), number, dtype=np.float32)
    return Answered(arrays=arrays)


def test_names() -> None:
    assert natural_name("robust") == "natural/robust"
    name = attacked_name(ATTACK, "standard", "float", "robust")
    assert name == "linf:8/255:2/255:20/standard/float/robust"


def test_views_by_way() -> None:
    some = answered()
    assert some.label.tolist() == [0, 1]
    assert some.index.tolist() == [7, 9]
    assert list(some.natural) == ["standard", "robust", "nonrobust"]
    numbers = {
        (attacked, way): logits[0, 0]
        for attacked, said in some.attacked(ATTACK, "float").items()
        for way, logits in said.items()
    }
    assert numbers["standard", "standard"] == 6
    assert numbers["robust", "nonrobust"] == 14
    assert len(numbers) == 9


def test_one_way() -> None:
    some = answered(("nonrobust",))
    assert some.ways == ["nonrobust"]
    assert list(some.attacked(ATTACK, "rounded")) == ["nonrobust"]


def test_file(tmp_path: Path) -> None:
    some = answered()
    found = answers.load(answers.save(tmp_path / "answers.npz", some))
    assert found.arrays.keys() == some.arrays.keys()
    for name, array in some.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert np.array_equal(found.arrays[name], array)


def test_files_that_hold_no_answers(tmp_path: Path) -> None:
    path = tmp_path / "answers.npz"
    with pytest.raises(DataError, match="cannot read answers"):
        answers.load(path)
    path.write_bytes(b"PK but no more")
    with pytest.raises(DataError, match="cannot read answers"):
        answers.load(path)
    np.savez(path, label=np.zeros(2))
    with pytest.raises(DataError, match="holds no answers"):
        answers.load(path)

import io
from pathlib import Path

import numpy as np
import pytest

from training import arrays
from training.files import OutputError

SOME = {"a/b": np.arange(3, dtype=np.float32), "c:d/1": np.array([[1, 2]])}


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.npz", SOME)
    found = arrays.read(tmp_path / "a.npz")
    assert list(found) == list(SOME)
    for name, array in SOME.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_same_arrays_same_bytes(tmp_path: Path) -> None:
    arrays.write(tmp_path / "a.npz", SOME)
    arrays.write(tmp_path / "b.npz", SOME)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays.write(path, {"a": np.zeros(1000)})
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[4000] ^= 1  # among the zeros
    alone = io.BytesIO()
    np.save(alone, np.zeros(3))
    for content in (alone.getvalue(), altered, whole[:-1], whole[:50], b"", b"no npz at all"):
        path.write_bytes(content)
        with pytest.raises(arrays.UNREADABLE):
            arrays.read(path)
    with pytest.raises(arrays.UNREADABLE):
        arrays.read(tmp_path / "nowhere")


def test_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{}]))
    with pytest.raises(arrays.UNREADABLE, match="allow_pickle"):
        arrays.read(path)


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        arrays.write(tmp_path / "file" / "a.npz", SOME)


def test_joined_in_order() -> None:
    parts = [{"a": np.array([1, 2]), "b": np.array([5])}, {"a": np.array([3]), "b": np.array([6])}]
    joined = arrays.joined(parts)
    assert {name: array.tolist() for name, array in joined.items()} == {"a": [1, 2, 3], "b": [5, 6]}

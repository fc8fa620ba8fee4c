"""The file that says which version answers: one line, whole or not at all."""

import os
from pathlib import Path

import pytest

from service.active import ACTIVE_FILE, read_active, write_active
from service.errors import ModelRefused, VersionUnwritable


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_active(tmp_path) is None
    write_active(tmp_path, 12)
    assert read_active(tmp_path) == 12
    assert (tmp_path / ACTIVE_FILE).read_bytes() == b"12\n"
    write_active(tmp_path, 3)
    assert read_active(tmp_path) == 3
    for _ in range(2):
        write_active(tmp_path, None)
        assert read_active(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_line_may_lack_its_end(tmp_path: Path) -> None:
    (tmp_path / ACTIVE_FILE).write_bytes(b"7")
    assert read_active(tmp_path) == 7


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"\n",
            b"newest\n",
            b"0\n",
            b"01\n",
            b"-1\n",
            b" 1\n",
            b"1\n\n",
            b"1\r\n",
            b"1\n2\n",
        ),
        *("\u0661\n".encode(), b"1e3", b"9" * 100, b"\xff\n"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ACTIVE_FILE).write_bytes(content)
    with pytest.raises(ModelRefused, match="which is no version") as caught:
        read_active(tmp_path)
    assert "parallax models activate" in caught.value.hint


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / ACTIVE_FILE).mkdir()
    with pytest.raises(ModelRefused, match="active cannot be read"):
        read_active(tmp_path)


def test_what_cannot_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_active(tmp_path, 1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VersionUnwritable, match="No space left"):
        write_active(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == [ACTIVE_FILE]
    assert read_active(tmp_path) == 1
    with pytest.raises(VersionUnwritable, match="No such file"):
        write_active(tmp_path / "absent", 2)

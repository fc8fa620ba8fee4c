"""Optimised networks on disk: found when whole, ignored when not, never in the way."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from service.graph_cache import GRAPH_FILE, WEIGHTS_FILE, KeptGraph, processor


def make(folder: Path) -> None:
    (folder / GRAPH_FILE).write_bytes(b"graph")
    (folder / WEIGHTS_FILE).write_bytes(b"weights")


@pytest.fixture
def kept(tmp_path: Path) -> KeptGraph:
    return KeptGraph(tmp_path / "deep" / "cache", {"model": "a", "runtime": "1"})


def alone(kept: KeptGraph) -> bool:
    """Whether the directory holds the entry and nothing else."""
    return [path.name for path in kept.directory.iterdir()] == [kept.folder.name]


def test_what_is_kept_is_found(kept: KeptGraph) -> None:
    assert kept.find() is None
    assert kept.keep(make) == kept.folder == kept.find()
    assert (kept.folder / GRAPH_FILE).read_bytes() == b"graph"
    assert alone(kept)
    assert kept.directory.stat().st_mode & 0o777 == 0o700


def test_every_part_counts(kept: KeptGraph) -> None:
    kept.keep(make)
    for parts in ({"model": "b", "runtime": "1"}, {"model": "a", "runtime": "2"}, {"model": "a"}):
        assert KeptGraph(kept.directory, parts).find() is None
    assert KeptGraph(kept.directory, {"runtime": "1", "model": "a"}).find() == kept.folder


def shorten(folder: Path) -> None:
    os.truncate(folder / WEIGHTS_FILE, 3)


def lose(folder: Path) -> None:
    (folder / GRAPH_FILE).unlink()


def add(folder: Path) -> None:
    (folder / "more").write_bytes(b"")


def reseal(folder: Path) -> None:
    (folder / "seal.json").write_text("{")


def name_another(folder: Path) -> None:
    (folder / "seal.json").write_text(json.dumps({"../../secret": "0" * 64}))


def list_names(folder: Path) -> None:
    (folder / "seal.json").write_text(json.dumps([GRAPH_FILE, WEIGHTS_FILE]))


def open_up(folder: Path) -> None:
    (folder / WEIGHTS_FILE).chmod(0o666)


def share(folder: Path) -> None:
    folder.chmod(0o770)


@pytest.mark.parametrize(
    "damage", [shorten, lose, add, reseal, name_another, list_names, open_up, share]
)
def test_what_is_damaged_is_told_and_made_anew(
    kept: KeptGraph, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kept.keep(make)
    damage(kept.folder)
    assert kept.find() is None
    assert "is not used" in caplog.text
    assert kept.keep(make) == kept.folder == kept.find()
    assert alone(kept)


def test_what_another_user_put_there_is_not_used(
    kept: KeptGraph, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept.keep(make)
    if os.geteuid() == 0:  # what root left is as good as the image that the process runs in
        os.chown(kept.folder, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert kept.find() is None
    assert "by another user" in caplog.text


def test_a_maker_that_fails_leaves_nothing(
    kept: KeptGraph, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: Path) -> None:
        (folder / GRAPH_FILE).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    assert kept.keep(fail) is None
    assert "cannot be kept: [Errno 28] No space left" in caplog.text
    assert list(kept.directory.iterdir()) == []


def test_a_place_that_is_no_directory_is_only_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no directory")
    kept = KeptGraph(tmp_path / "file", {"model": "a"})
    assert kept.find() is None
    assert kept.keep(make) is None
    assert "cannot be kept" in caplog.text


def test_a_process_that_was_faster_wins(kept: KeptGraph) -> None:
    def slower(folder: Path) -> None:
        make(folder)
        kept.keep(make)
        (kept.folder / GRAPH_FILE).stat()
        (folder / GRAPH_FILE).write_bytes(b"later")

    assert kept.keep(slower) == kept.folder
    assert (kept.folder / GRAPH_FILE).read_bytes() == b"graph"
    assert alone(kept)


def test_one_that_fails_beside_a_faster_one_uses_that(kept: KeptGraph) -> None:
    def fail(folder: Path) -> None:
        kept.keep(make)
        raise RuntimeError("no room for two")

    assert kept.keep(fail) == kept.folder


def test_what_is_open_outlives_its_entry(kept: KeptGraph, caplog: pytest.LogCaptureFixture) -> None:
    kept.keep(make)
    with (kept.folder / GRAPH_FILE).open("rb") as file:
        kept.discard("it is old")
        kept.discard("it is gone")
        assert kept.find() is None
        assert file.read() == b"graph"
    assert "is not used: it is old" in caplog.text
    assert list(kept.directory.iterdir()) == []


def test_instruction_sets_are_told_in_one_order(tmp_path: Path) -> None:
    first, second, third = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    first.write_text("processor\t: 0\nflags\t\t: sse avx\n\nprocessor\t: 1\nflags\t: other\n")
    second.write_text("Features\t: avx sse\n")
    third.write_text("flags\t: avx sse avx512f\n")
    assert processor(first) == processor(second) != processor(third)
    assert processor(tmp_path / "absent")

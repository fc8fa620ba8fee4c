"""A new version beside the old one: whole or not at all."""

import os
from pathlib import Path

import pytest

from service.errors import VersionUnwritable
from service.manifest import MODEL_FILE, read_manifest
from service.repository import load_model
from service.versions import write_version
from tests.service.toy import ToyFolder, calibrated


def test_a_version_is_the_same_files_with_another_manifest(toy: ToyFolder) -> None:
    old = (toy.path / "manifest.json").read_bytes()
    (toy.path.parent / "7").mkdir()
    (toy.path.parent / "draft").mkdir()
    toy.changes["decision"] = calibrated()
    written = write_version(toy.path, toy.manifest())
    assert written == toy.path.parent / "8"
    model = load_model(written, provider="cpu", threads=1)
    assert model.version == 8
    assert model.manifest.decision == calibrated()
    assert (toy.path / "manifest.json").read_bytes() == old
    assert (written / MODEL_FILE).samefile(toy.path / MODEL_FILE)


def test_files_are_copied_where_links_are_not_possible(
    toy: ToyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(source: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", unsupported)
    written = write_version(toy.path, toy.manifest())
    assert not (written / MODEL_FILE).samefile(toy.path / MODEL_FILE)
    assert load_model(written, provider="cpu", threads=1).version == 2


def test_a_failure_leaves_nothing(toy: ToyFolder) -> None:
    manifest = toy.manifest()
    (toy.path / MODEL_FILE).unlink()
    with pytest.raises(VersionUnwritable, match="No such file"):
        write_version(toy.path, manifest)
    assert [path.name for path in toy.path.parent.iterdir()] == ["1"]


def test_a_version_is_never_written_twice(toy: ToyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else writes version 2 meanwhile."""
    manifest = toy.manifest()
    rename = Path.rename

    def slow(self: Path, target: Path) -> Path:
        ToyFolder(toy.root, version=2).write()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    with pytest.raises(VersionUnwritable, match="2"):
        write_version(toy.path, manifest)
    assert read_manifest(toy.path.parent / "2").decision.calibration is None
    assert sorted(path.name for path in toy.path.parent.iterdir()) == ["1", "2"]

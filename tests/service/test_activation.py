"""Rollback and activation: nothing answers that was not verified first."""

from pathlib import Path

import pytest

from service.activation import activate, active_version, rollback
from service.active import read_active, write_active
from service.errors import ModelRefused, SettingsRefused
from service.repository import Loader
from tests.service.toy import ToyFolder


@pytest.fixture
def loader() -> Loader:
    return Loader(provider="cpu", threads=1)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Versions 1, 2, 3 and 5 of `toy`, of which 2 is broken."""
    for version in (1, 2, 3, 5):
        folder = ToyFolder(tmp_path, version=version).write()
        if version == 2:
            (folder.path / "model.onnx").write_bytes(b"broken")
    return tmp_path


def test_the_newest_answers_until_another_is_written_down(models: Path, loader: Loader) -> None:
    assert active_version(models, "toy") == 5
    activate(models, loader, "toy", 3)
    assert active_version(models, "toy") == 3
    activate(models, loader, "toy", None)
    assert active_version(models, "toy") == 5
    assert read_active(models / "toy") is None


def test_rollback_goes_down_by_what_verifies(models: Path, loader: Loader) -> None:
    assert rollback(models, loader, "toy", None) == 3
    assert active_version(models, "toy") == 3
    assert rollback(models, loader, "toy", None) == 1
    with pytest.raises(ModelRefused, match="no version below 1"):
        rollback(models, loader, "toy", None)
    assert active_version(models, "toy") == 1


def test_rollback_to_a_version(models: Path, loader: Loader) -> None:
    assert rollback(models, loader, "toy", 1) == 1
    for version in (1, 3):
        with pytest.raises(SettingsRefused, match=f"version {version} is not below version 1"):
            rollback(models, loader, "toy", version)
    assert active_version(models, "toy") == 1


def test_a_broken_version_is_not_written_down(models: Path, loader: Loader) -> None:
    with pytest.raises(ModelRefused, match=r"model\.onnx has sha256"):
        activate(models, loader, "toy", 2)
    with pytest.raises(ModelRefused, match=r"model\.onnx has sha256"):
        rollback(models, loader, "toy", 2)
    assert read_active(models / "toy") is None


def test_the_reason_why_nothing_below_verifies_is_kept(models: Path, loader: Loader) -> None:
    (models / "toy" / "1" / "golden.npz").unlink()
    write_active(models / "toy", 3)
    with pytest.raises(ModelRefused, match="no version below 3") as caught:
        rollback(models, loader, "toy", None)
    assert "golden.npz" in str(caught.value.__cause__)
    assert read_active(models / "toy") == 3


@pytest.mark.parametrize("name", ["other", "../toy", "", ".", "toy/3", "TOY"])
def test_unknown_names_are_refused(models: Path, loader: Loader, name: str) -> None:
    with pytest.raises(SettingsRefused, match="there is no model"):
        activate(models, loader, name, None)
    with pytest.raises(SettingsRefused, match="there is no model"):
        rollback(models, loader, name, None)


@pytest.mark.parametrize("version", [0, 4, 6])
def test_unknown_versions_are_refused(models: Path, loader: Loader, version: int) -> None:
    with pytest.raises(SettingsRefused, match=f"toy has no version {version}") as caught:
        activate(models, loader, "toy", version)
    assert caught.value.hint == "there are 1, 2, 3, 5"


def test_a_file_of_nonsense_is_mended_by_activation_only(models: Path, loader: Loader) -> None:
    (models / "toy" / "active").write_text("nonsense")
    with pytest.raises(ModelRefused, match="no version"):
        rollback(models, loader, "toy", None)
    activate(models, loader, "toy", 1)
    assert active_version(models, "toy") == 1

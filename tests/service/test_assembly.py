"""A directory to a catalogue: strict at the start, forgiving at a reload, by the same rules."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from service import manifest as contract
from service.active import write_active
from service.assembly import load_catalogue, reload_catalogue
from service.catalogue import Catalogue, Model
from service.errors import ModelRefused, SettingsRefused
from service.repository import Loader
from tests.service.toy import ToyFolder, toy_network

Served = dict[str, list[int]]


def loader() -> Loader:
    return Loader(provider="cpu", threads=1)


def start(models: Path, default_model: str | None = None) -> Catalogue:
    return load_catalogue(models, loader(), default_model=default_model)


def fits_all(model: Model) -> None:
    """No settings that a model could fail to follow."""


def again(
    models: Path,
    old: Catalogue,
    default_model: str | None = None,
    fits: Callable[[Model], None] = fits_all,
) -> Catalogue:
    return reload_catalogue(models, loader(), old, default_model=default_model, fits=fits)


def served(catalogue: Catalogue) -> Served:
    """Versions by name, the active one first."""
    versions: Served = {}
    for model in catalogue:
        place = 0 if catalogue.is_active(model) else len(versions.get(model.name, []))
        versions.setdefault(model.name, []).insert(place, model.version)
    return versions


def write(models: Path, *versions: int, name: str = "toy", **changes: object) -> None:
    for version in versions:
        ToyFolder(models, name=name, version=version, changes=dict(changes)).write()


def spoil(models: Path, place: str) -> None:
    (models / place / contract.MODEL_FILE).write_bytes(b"broken")


def test_a_start_takes_all_and_the_newest_answers(tmp_path: Path) -> None:
    write(tmp_path, 9, 10)
    write(tmp_path, 1, name="other")
    assert served(start(tmp_path)) == {"toy": [10, 9], "other": [1]}


def test_a_start_heeds_the_active_file_and_above_it_the_settings(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    write_active(tmp_path / "toy", 2)
    assert served(start(tmp_path)) == {"toy": [2, 1, 3]}
    assert served(start(tmp_path, "toy")) == {"toy": [2, 1, 3]}
    assert served(start(tmp_path, "toy/1")) == {"toy": [1, 2, 3]}


def test_a_start_stops_at_the_first_fault(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    with pytest.raises(SettingsRefused, match="'toy/3' is not loaded"):
        start(tmp_path, "toy/3")
    write_active(tmp_path / "toy", 3)
    with pytest.raises(ModelRefused, match="version 3 is to answer and is not there"):
        start(tmp_path)
    (tmp_path / "toy" / "active").write_text("three")
    with pytest.raises(ModelRefused, match="active holds 'three'"):
        start(tmp_path)
    write_active(tmp_path / "toy", None)
    (tmp_path / "toy" / "2" / contract.MANIFEST_FILE).unlink()
    with pytest.raises(ModelRefused, match="manifest"):
        start(tmp_path)


def test_what_did_not_change_stays_the_very_same(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    old = start(tmp_path)
    write(tmp_path, 3)
    shutil.rmtree(tmp_path / "toy" / "1")
    new = again(tmp_path, old)
    assert served(new) == {"toy": [3, 2]}
    assert new.find("toy", 2) is old.find("toy", 2)
    assert new.left_out == ()


def test_versions_with_the_same_network_share_a_session(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    old = start(tmp_path)
    write(tmp_path, 4)
    new = again(tmp_path, old)
    assert len({id(model.session) for model in new}) == 1
    other = toy_network()
    other.producer_name = "another"
    ToyFolder(tmp_path, version=5).write(other)
    assert len({id(model.session) for model in again(tmp_path, new)}) == 2


def test_a_shared_session_must_keep_each_version_s_promise(tmp_path: Path) -> None:
    write(tmp_path, 1)
    ToyFolder(tmp_path, version=2, height=5).write(toy_network(height=4))
    with pytest.raises(ModelRefused, match=r"toy/2 refused: model\.onnx takes image"):
        start(tmp_path)


def test_a_version_that_was_written_over_is_another_model(tmp_path: Path) -> None:
    write(tmp_path, 1)
    old = start(tmp_path)
    write(tmp_path, 1, description="another")
    new = again(tmp_path, old)
    assert new.default is not old.default
    assert new.default.manifest.description == "another"


@pytest.mark.parametrize("file", [contract.MODEL_FILE, contract.GOLDEN_FILE])
def test_a_bad_version_is_left_out_and_the_old_ones_go_on(tmp_path: Path, file: str) -> None:
    write(tmp_path, 1, 2)
    old = start(tmp_path)
    write(tmp_path, 3, 4)
    (tmp_path / "toy" / "3" / file).write_bytes(b"broken")
    spoil(tmp_path, "toy/2")
    new = again(tmp_path, old)
    assert served(new) == {"toy": [4, 1, 2]}
    assert new.find("toy", 2) is old.find("toy", 2)
    assert [(entry.name, entry.version) for entry in new.left_out] == [("toy", 2), ("toy", 3)]
    assert all("has sha256" in entry.reason for entry in new.left_out)


def test_the_newest_that_is_good_answers(tmp_path: Path) -> None:
    write(tmp_path, 1)
    old = start(tmp_path)
    write(tmp_path, 2)
    spoil(tmp_path, "toy/2")
    assert served(again(tmp_path, old)) == {"toy": [1]}


def test_a_folder_without_a_manifest_is_not_yet_there(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    old = start(tmp_path)
    (tmp_path / "toy" / "2" / contract.MANIFEST_FILE).rename(tmp_path / "away")
    (tmp_path / "toy" / "3").mkdir()
    (tmp_path / "toy" / "3" / contract.MODEL_FILE).write_bytes(b"half")
    new = again(tmp_path, old)
    assert served(new) == {"toy": [2, 1]}
    assert new.left_out == ()
    write(tmp_path, 3)
    assert served(again(tmp_path, new)) == {"toy": [3, 1, 2]}


def test_the_active_file_is_heeded_at_a_reload(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    old = start(tmp_path)
    write_active(tmp_path / "toy", 1)
    back = again(tmp_path, old)
    assert served(back) == {"toy": [1, 2]}
    write(tmp_path, 3)
    assert served(again(tmp_path, back)) == {"toy": [1, 2, 3]}
    assert served(again(tmp_path, back, "toy/2")) == {"toy": [2, 1, 3]}
    write_active(tmp_path / "toy", None)
    assert served(again(tmp_path, back)) == {"toy": [3, 1, 2]}


@pytest.mark.parametrize("said", ["nonsense", "9\n"])
def test_an_active_file_that_cannot_be_followed_leaves_all_as_it_was(
    tmp_path: Path, said: str
) -> None:
    write(tmp_path, 1, 2)
    write_active(tmp_path / "toy", 1)
    old = start(tmp_path)
    (tmp_path / "toy" / "active").write_text(said)
    write(tmp_path, 3)
    new = again(tmp_path, old)
    assert served(new) == {"toy": [1, 2, 3]}
    assert [(entry.name, entry.version) for entry in new.left_out] == [("toy", None)]


def test_a_new_name_with_such_a_file_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 1)
    old = start(tmp_path)
    write(tmp_path, 1, name="another")
    write_active(tmp_path / "another", 2)
    new = again(tmp_path, old)
    assert served(new) == {"toy": [1]}
    assert [entry.name for entry in new.left_out] == ["another"]


def test_what_is_to_answer_does_not_leave_with_its_folder(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    write_active(tmp_path / "toy", 1)
    old = start(tmp_path)
    shutil.rmtree(tmp_path / "toy" / "1")
    new = again(tmp_path, old)
    assert served(new) == {"toy": [1, 2]}
    assert new.default is old.default
    assert "its folder is gone" in new.left_out[0].reason
    write_active(tmp_path / "toy", None)
    assert served(again(tmp_path, new)) == {"toy": [2]}


@pytest.mark.parametrize("default_model", ["toy", "toy/2"])
def test_the_default_does_not_leave_with_its_folder(tmp_path: Path, default_model: str) -> None:
    write(tmp_path, 1, 2)
    write(tmp_path, 1, name="another")
    old = start(tmp_path, default_model)
    shutil.rmtree(tmp_path / "toy")
    new = again(tmp_path, old, default_model)
    assert served(new) == {"another": [1], "toy": [2]}
    assert new.default is old.default
    assert [(entry.name, entry.version) for entry in new.left_out] == [("toy", 2)]


def test_another_name_may_leave(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 1, name="another")
    old = start(tmp_path)
    shutil.rmtree(tmp_path / "another")
    new = again(tmp_path, old)
    assert served(new) == {"toy": [1]}
    assert new.left_out == ()


@pytest.mark.parametrize("lost", ["empty", "gone", "unfinished"])
def test_a_lost_directory_is_no_wish(tmp_path: Path, lost: str) -> None:
    models = tmp_path / "models"
    write(models, 1)
    old = start(models)
    shutil.rmtree(models)
    if lost != "gone":
        models.mkdir()
    if lost == "unfinished":
        (models / "another" / "1").mkdir(parents=True)
    with pytest.raises(ModelRefused):
        again(models, old)


def test_a_version_that_cannot_follow_the_settings_does_not_come_to_answer(tmp_path: Path) -> None:
    def fits(model: Model) -> None:
        if model.manifest.description == "plain":
            raise SettingsRefused("it cannot follow the settings", "change them")

    write(tmp_path, 1)
    old = start(tmp_path)
    write(tmp_path, 2, 3, description="plain")
    new = again(tmp_path, old, fits=fits)
    assert served(new) == {"toy": [1]}
    assert [entry.version for entry in new.left_out] == [3, 2]
    write_active(tmp_path / "toy", 1)
    both = again(tmp_path, old, fits=fits)
    assert served(both) == {"toy": [1, 2, 3]}
    write_active(tmp_path / "toy", 3)
    assert served(again(tmp_path, both, fits=fits)) == {"toy": [1, 2, 3]}
    write(tmp_path, 1, description="plain")  # in the place of what answers
    write_active(tmp_path / "toy", 1)
    kept = again(tmp_path, both, fits=fits)
    assert kept.default is both.default
    write(tmp_path, 1, name="new", description="plain")
    assert "new" not in served(again(tmp_path, both, fits=fits))

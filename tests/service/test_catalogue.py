"""Which model answers: by name, by version, as the operator says, or the newest."""

from pathlib import Path

import pytest

from service.assembly import load_catalogue
from service.catalogue import Catalogue, LeftOut, split_default
from service.errors import ModelUnknown, SettingsRefused
from service.repository import Loader
from tests.service.toy import ToyFolder


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    for name, version in (("b", 9), ("b", 10), ("a", 1)):
        ToyFolder(tmp_path / "many", name=name, version=version).write()
    loader = Loader(provider="cpu", threads=1)
    return load_catalogue(tmp_path / "many", loader, default_model="b")


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        (None, None, ("b", 10)),
        ("b", None, ("b", 10)),
        ("b", 9, ("b", 9)),
        (None, 9, ("b", 9)),
        ("a", None, ("a", 1)),
    ],
)
def test_catalogue_finds(
    catalogue: Catalogue, name: str | None, version: int | None, found: tuple[str, int]
) -> None:
    model = catalogue.find(name, version)
    assert (model.name, model.version) == found


@pytest.mark.parametrize(("name", "version"), [("c", None), ("a", 9), (None, 1), ("", None)])
def test_catalogue_says_what_is_loaded(
    catalogue: Catalogue, name: str | None, version: int | None
) -> None:
    with pytest.raises(ModelUnknown, match="a version 1, b version 9, b version 10"):
        catalogue.find(name, version)


def test_default_is_the_first_name_or_the_given_one(catalogue: Catalogue) -> None:
    assert catalogue.default.name == "b"
    assert Catalogue(list(catalogue)).default.name == "a"


@pytest.mark.parametrize("name", ["c", "a/2", "a/", "a/one", "/1", "a/1/1", "a/01"])
def test_unknown_default_is_refused(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(SettingsRefused, match=f"'{name}' is not loaded") as caught:
        Catalogue(list(catalogue), name)
    assert caught.value.hint == "loaded: a/1, b/9, b/10"


def test_an_older_version_can_be_served_again(catalogue: Catalogue) -> None:
    """It answers where no version is named, also where its own name is."""
    older = Catalogue(list(catalogue), "b/9")
    assert older.default.version == 9
    assert older.find("b").version == 9
    assert older.find("b", 10).version == 10
    assert older.find("a").version == 1


def test_the_active_version_answers_and_the_settings_stand_above_it(catalogue: Catalogue) -> None:
    models = list(catalogue)
    rolled_back = Catalogue(models, "b", active={"b": 9})
    assert rolled_back.default.version == rolled_back.find("b").version == 9
    assert rolled_back.find("b", 10).version == 10
    assert [model.version for model in rolled_back if rolled_back.is_active(model)] == [1, 9]
    assert (rolled_back.active("b"), rolled_back.active("c")) == (9, None)
    pinned = Catalogue(models, "b/10", active={"b": 9})
    assert pinned.default.version == 10
    assert pinned.active("b") == 10


def test_a_version_is_got_or_not(catalogue: Catalogue) -> None:
    assert catalogue.get("b", 9) is catalogue.find("b", 9)
    assert catalogue.get("b", 8) is None
    assert catalogue.get("c", 1) is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [("b", ("b", None)), ("b/9", ("b", 9)), ("b/", ("b", 0)), ("b/09", ("b", 0)), ("", ("", None))],
)
def test_a_default_is_a_name_or_a_name_and_a_version(
    text: str, meant: tuple[str, int | None]
) -> None:
    assert split_default(text) == meant


def test_what_is_left_out_is_a_line() -> None:
    assert str(LeftOut("b", 9, "it is broken")) == "b version 9: it is broken"
    assert str(LeftOut("b", None, "it is broken")) == "b: it is broken"

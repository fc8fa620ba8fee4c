import json
from pathlib import Path

import pytest

from training.files import OutputError, new_folder, ready_folder, write_report, write_text


def test_text_replaces_text_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.md"
    write_text(path, "first")
    write_text(path, "é")
    assert path.read_text(encoding="utf-8") == "é"
    assert list(path.parent.iterdir()) == [path]


def test_report_is_both_files(tmp_path: Path) -> None:
    path = write_report(tmp_path, "a", {"value": 0.5}, "# a\n")
    assert path == tmp_path / "a.json"
    assert json.loads(path.read_text()) == {"value": 0.5}
    assert (tmp_path / "a.md").read_text() == "# a\n"
    with pytest.raises(ValueError, match="Out of range"):
        write_report(tmp_path, "b", {"value": float("nan")}, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.md"]


def test_text_in_an_impossible_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "file" / "a.md", "text")


def test_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with new_folder(target) as draft:
        (draft / "a").write_text("a")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["out"]
    assert (target / "a").read_text() == "a"


def test_empty_folder_may_be_there(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with new_folder(target) as draft:
        (draft / "a").write_text("a")
    assert (target / "a").exists()


@pytest.mark.parametrize("place", ["out", "new/folder/out"])
@pytest.mark.parametrize(
    ("fault", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, ""), OutputError)]
)
def test_failure_leaves_nothing(
    tmp_path: Path, place: str, fault: BaseException, raised: type[BaseException]
) -> None:
    def stopped() -> None:
        with new_folder(tmp_path / place) as draft:
            (draft / "a").write_text("a")
            raise fault

    with pytest.raises(raised):
        stopped()
    assert list(tmp_path.iterdir()) == []


def test_full_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(OutputError, match="is not empty"), new_folder(tmp_path):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_folder_filled_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def overtaken() -> None:
        with new_folder(target):
            target.mkdir()
            (target / "precious").write_text("x")

    with pytest.raises(OutputError, match="cannot write"):
        overtaken()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious"]


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"), new_folder(tmp_path / "out"):
        raise AssertionError
    with pytest.raises(OutputError, match="cannot write"), new_folder(tmp_path / "out" / "x"):
        raise AssertionError
    with pytest.raises(OutputError, match="cannot write to"):
        ready_folder(tmp_path / "out")


def test_closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready_folder(tmp_path / "a" / "b")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OutputError, match="permission denied"):
        ready_folder(tmp_path / "a" / "b")

"""The report as a whole: what is drawn, what is said where nothing is, and bad input."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.training import evaluations, examinee
from training.cli import main
from training.config import ConfigError
from training.inversion import Inversion
from training.paper_faults import FAULTS
from training.report import Report, ReportError, read

REPORT = Report(inversion=Inversion(steps=3), simulated=1000)


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_with_a_model(tmp_path: Path) -> None:
    documents = [evaluations.document("aat"), evaluations.document("aat++")]
    out = tmp_path / "reproduction.md"
    written = REPORT(documents, out, examinee.subject(), quiet())
    text = out.read_text()
    assert [path.name for path in written] == [
        "reproduction.md",
        "reproduction-ablation.svg",
        "reproduction-gradients.svg",
        "reproduction-inversion.svg",
        "ours.json",
        "ours-2.json",
    ]
    assert read(written[-1]) == documents[1]
    for path in written[1:4]:
        assert f"(images/{path.name})" in text
        assert path.parent == tmp_path / "images"
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert [title.split(":")[0] for title in titles] == [
        *(f"## Table {number}" for number in (1, 2, 3)),
        "## Figure 2b",
        "## Table 4b",
        *(f"## Table {number}" for number in (6, 7, 8)),
        "## Figure 3",
        "## Figures 2a and 4",
        "## Proposition 1",
        "## Where the paper contradicts itself, and how it is read here",
    ]
    assert "images 100, 101, 102" in text
    assert all(fault.problem in text for fault in FAULTS)
    assert "| h_0, all features | 0.9440 | 0.9667 |" in text


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    first, second = (
        REPORT([evaluations.document("aat")], tmp_path / name / "r.md", examinee.subject(), quiet())
        for name in ("one", "two")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_without_anything(tmp_path: Path) -> None:
    out = tmp_path / "reproduction.md"
    assert REPORT([], out, None, quiet()) == [out]
    assert list(tmp_path.iterdir()) == [out]
    text = out.read_text()
    assert "Not drawn: no model was given." in text
    assert "Not run." in text
    assert not (tmp_path / "images").exists()


def test_a_model_of_one_way(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="three ways"):
        REPORT([], tmp_path / "r.md", examinee.subject("at"), quiet())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"split": "validation"}, "is of validation images"),
        ({"results": []}, "is not an evaluation"),
        ({"model": {"name": "x", "method": "aat", "backbone": "b", "steps": 1}}, "evaluate again"),
        ({"results": [{"metrics": {"accuracy_standard_natural": 1.0}}]}, "evaluate again"),
        ({"model": 3}, "is not an evaluation"),
        (None, "is not an evaluation"),
    ],
)
def test_evaluations_that_cannot_be_used(
    tmp_path: Path, change: dict[str, Any] | None, fault: str
) -> None:
    document: Any = [] if change is None else evaluations.document("aat") | change
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    with pytest.raises(ReportError, match=fault):
        read(tmp_path)


def test_a_run_without_evaluation(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="run `parallax-train evaluate`"):
        read(tmp_path)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluations.document("aat")))
    examinee.write_images(tmp_path / "data", ("cat", "dog"))
    source = f"imagefolder:{tmp_path / 'data'}"
    examinee.write_checkpoint(tmp_path / "checkpoint.safetensors", source, ("cat", "dog"))
    out = tmp_path / "report" / "paper.md"
    options = [
        "--model",
        str(tmp_path),
        "--count",
        "2",
        "--inversion-steps",
        "2",
        "--device",
        "cpu",
    ]
    assert main(["report", "--paper", str(tmp_path), "--out", str(out), *options]) == 0
    assert "1 evaluations" in capsys.readouterr().out
    assert "ours: ours on MNIST" in out.read_text()
    assert (out.parent / "images" / "reproduction-inversion.svg").exists()


def test_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "paper.md"
    assert main(["report", "--paper", str(tmp_path / "nothing"), "--out", str(out)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()

"""What the documents say is compared with the code, so that neither can drift."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import StartupError, request_errors
from service.metrics import Metrics
from service.settings import PREFIX, Settings
from training import reproduction
from training.cli import main
from training.report import read as read_evaluation

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def rows(section: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its head."""
    text = README.split(f"### {section}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shipped() -> Any:
    """The manifest of the model that the documents are about."""
    return json.loads((ROOT / "models" / "mnist" / "3" / "manifest.json").read_text())


def test_settings() -> None:
    expected = [
        [
            f"`{PREFIX}{name.upper()}`",
            "" if field.default is None else f"`{field.default}`",
            field.description,
        ]
        for name, field in Settings.model_fields.items()
    ]
    assert rows("Settings") == expected


def test_metrics() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    declared = {
        family.name: family.documentation
        for family in registry.collect()
        if family.name.startswith("parallax_")
    }
    documented = {row[0].strip("`").removesuffix("_total"): row[3] for row in rows("Metrics")}
    assert documented == declared


def test_errors() -> None:
    expected = [
        [f"`{error.code}`", str(error.status), (error.__doc__ or "").splitlines()[0]]
        for error in request_errors()
    ]
    assert rows("Errors") == expected


def test_exit_statuses() -> None:
    own = {
        kind.exit_status: (kind.__doc__ or "").splitlines()[0]
        for kind in StartupError.__subclasses__()
        if kind.exit_status != StartupError.exit_status
    }
    shown = {int(row[0].strip("`")): row[1] for row in rows("Exit statuses")}
    assert shown.keys() == {0, StartupError.exit_status, 130, 143, *own}
    assert {status: shown[status] for status in own} == own


def test_the_tree_names_every_module() -> None:
    tree = next(block for block in blocks("text") if block.startswith("pyproject.toml"))
    named = set(re.findall(r"[\w.-]+\.(?:py|toml|md)\b", tree))
    modules = {
        path.name
        for package in ("service", "training")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert modules - named == set()
    present = {path.name for path in ROOT.rglob("*") if ".venv" not in path.parts[len(ROOT.parts)]}
    assert named - present == set()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in (README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))):
        named = re.findall(r"`make ([a-z0-9-]+)[^`]*`|^make ([a-z0-9-]+)", document, re.MULTILINE)
        assert {inline or alone for inline, alone in named} <= targets


@pytest.mark.parametrize(
    "stage",
    [
        *("train", "attack", "evaluate", "stress", "shift", "calibrate", "report"),
        *("round", "quantise", "export"),
    ],
)
def test_the_stages_exist(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"parallax-train {stage}" in README
    with pytest.raises(SystemExit) as stopped:
        main([stage, "--help"])
    assert stopped.value.code == 0
    assert stage in capsys.readouterr().out


def conversations() -> list[tuple[str, str, str]]:
    """Path, file and printed answer of each curl command that the README shows with its answer."""
    found = re.findall(
        r"```console\n\$ curl -s -H 'Content-Type: image/png' --data-binary @(\S+) \\\n"
        r"    'localhost:8080(\S+)'[^\n]*\n(.*?)```",
        README,
        re.DOTALL,
    )
    return [(path, file, answer) for file, path, answer in found]


def close(printed: Any, answered: Any) -> bool:
    """Equal, numbers to the fourth digit, times not at all."""
    if isinstance(printed, dict):
        return printed.keys() == answered.keys() and all(
            name == "timings_ms" or close(printed[name], answered[name]) for name in printed
        )
    if isinstance(printed, list):
        return len(printed) == len(answered) and all(map(close, printed, answered))
    if isinstance(printed, float):
        return abs(printed - answered) < 1e-4
    return bool(printed == answered)


def test_the_printed_answers_are_the_services() -> None:
    shown = conversations()
    assert len(shown) >= 2
    with TestClient(create_app(Settings(models=ROOT / "models", provider="cpu"))) as client:
        for path, file, printed in shown:
            answer = client.post(
                path, content=(ROOT / file).read_bytes(), headers={"Content-Type": "image/png"}
            )
            assert close(json.loads(printed), answer.json()), file


def test_the_stress_figures_are_the_reports() -> None:
    report = (ROOT / "docs" / "mnist-stress.md").read_text()
    shown = rows("What an attacker who knows the detector reaches")
    assert [row[0] for row in shown] == ["0.1", "0.2", "0.3"]
    text = report.split("## What gets through\n", 1)[1].split("\n#", 1)[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, *table = [[cell.strip() for cell in line] for line in lines]
    columns = [head.index(name) for name in ("robust way right", "reject", "strict", "score 5%")]
    reported = {row[0]: row for row in table}
    for eps, *shares in shown:
        assert shares == [reported[eps][column] for column in columns]


def test_the_reproduction_is_made_of_the_evaluations_beside_it() -> None:
    """Every table of ours anew from what is kept; a figure changed by hand would show."""
    evaluations = sorted((ROOT / "docs" / "evaluations").glob("*.json"))
    documents = [read_evaluation(path) for path in evaluations]
    order = {"st": 0, "at": 1, "aat": 2, "aat++": 3}
    documents.sort(key=lambda one: order[one["model"]["method"]])
    report = (ROOT / "docs" / "reproduction.md").read_text()
    made = [reproduction.paper_table(number, documents) for number in (1, 2, 3, 6, 7, 8)]
    for line in (line for part in (*made, reproduction.detection(documents)) for line in part):
        assert line in report


def test_the_false_alarms_are_the_reports() -> None:
    report = (ROOT / "docs" / "mnist-shift.md").read_text()
    cells: dict[str, list[str]] = {}
    for line in report.splitlines():
        if line.startswith("|"):
            name, *shares = (cell.strip().split(" ")[0] for cell in line.strip("|").split("|"))
            cells.setdefault(name, shares)  # the first table of corruptions is Eq. 12's
    section = README.split("### How often a natural image raises an alarm\n", 1)[1]
    told = " ".join(section.split("\n#", 1)[0].split())
    assert f"flags {cells['0'][0]} % as they are" in told
    for severity in "135":
        assert f"{cells[severity][0]} % at severity {severity}" in told
    assert f"brightness flags {cells['brightness'][0]} %" in told
    assert f"fog {cells['fog'][0]} % at severity 1" in told
    assert max(map(float, cells["jpeg"])) < 1
    assert f"test split, {told.split()[1].replace(',', '')} of" in report
    corruptions = report.split("### Flagged by Eq. 12")[1].split("| mean", 1)[0].count("\n| ") - 1
    assert f"under {corruptions} corruptions" in told


def test_the_calibration_is_the_shipped_models() -> None:
    """Thresholds of the report are the manifest's, README's rates at 1 % are the report's."""
    report = (ROOT / "docs" / "mnist-calibration.md").read_text()
    alarms, attacks = (
        [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in report.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0].splitlines()
            if line.startswith("| ")
        ]
        for section in ("False alarms", "Detection")
    )
    thresholds = shipped()["decision"]["thresholds"]
    shown = {row[0]: row for row in alarms[1:-1]}  # the last is Eq. 12's
    assert {rate: row[1] for rate, row in shown.items()} == {
        f"{100 * float(rate):g}": f"{one['value']:.6g}" for rate, one in thresholds.items()
    }
    realised = shown["1"][4].split()[0]
    flagged = attacks[1][attacks[0].index("at 1 %")].split()[0]
    told = " ".join(README.split())
    assert f"{realised} % of the 10,000 test images are flagged and {flagged} % of succ" in told


@pytest.mark.parametrize(
    "place", [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("tests/bench/**/*.py")]
)
def test_a_model_that_is_named_is_there(place: Path) -> None:
    named = set(re.findall(r"models/(mnist/\d+)", place.read_text()))
    assert [model for model in named if not (ROOT / "models" / model).is_dir()] == []


@pytest.mark.parametrize("report", ["mnist", "mnist-calibration", "mnist-shift", "int8"])
def test_a_report_of_the_shipped_model_is_about_its_weights(report: str) -> None:
    weights = shipped()["provenance"]["data_hashes"]["weights"]
    assert f"weights `{weights[:12]}`" in (ROOT / "docs" / f"{report}.md").read_text()


@pytest.mark.parametrize("document", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
def test_what_a_document_links_to_is_there(document: Path) -> None:
    linked = re.findall(r"\]\(((?!https?:)[^)#\s]+)\)", document.read_text())
    assert [link for link in linked if not (document.parent / link).exists()] == []


def test_the_figures_are_the_manifests() -> None:
    for _, figure, name in rows("What the shipped model reaches"):
        value = shipped()["evaluation"]["metrics"][name.strip("`")]
        assert figure == f"{100 * value:.2f} %", name

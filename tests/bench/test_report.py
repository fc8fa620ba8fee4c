"""The document says what was measured, and the one in docs says what its results say."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.bench.report import PLOT, STEM, report, write
from tests.bench.results import read
from tests.bench.runs import results, row

DOCS = Path(__file__).parents[2] / "docs"


def test_results_can_be_read_back() -> None:
    assert read(json.loads(json.dumps(results().plain()))) == results()


def test_something_else_is_not_read() -> None:
    with pytest.raises(ValidationError):
        read({"rounds": []})


def test_the_document_holds_every_row_and_target() -> None:
    text = report(results())
    assert (
        "| Parallax | PNG | 32 | 3,900 | 3,900 | 1.00 | 2.00 | 3.00 | 2.00 | 0.25 | 128 |" in text
    )
    assert "| Parallax, 2 workers | PNG | 32 | 5,000 |" in text
    assert "| ONNX Runtime | batch 16 | 1 | 5.0 | 80.0 |" in text
    assert "| start to ready | <= 1.50 s | 1.50 s | yes |" in text
    assert "| its growth over 100,100 requests | <= 5.0% | 10.0% | no |" in text
    assert "| thirty lines | THREADS 1 | 2,500 (best) |" in text
    assert "abacus" in text


def test_a_row_that_could_not_be_measured_says_why() -> None:
    run = results()
    absent = replace(row("Parallax", "v2, 1 image", 1, 0.0), note="not there")
    text = report(replace(run, rounds=[*run.rounds, absent]))
    assert "| Parallax | v2, 1 image | 1 | not there | |" in text.replace("  ", " ")


def test_writes_document_results_and_plot(tmp_path: Path) -> None:
    write(results(), tmp_path)
    assert read(json.loads((tmp_path / f"{STEM}.json").read_text())) == results()
    assert (tmp_path / f"{STEM}.md").read_text() == report(results())
    texts = [node.text for node in ET.parse(tmp_path / PLOT).iter() if node.tag.endswith("text")]
    assert {"Parallax", "Parallax, 2 workers", "LitServe"} <= set(texts)


def test_the_documents_figures_are_its_results() -> None:
    kept = read(json.loads((DOCS / f"{STEM}.json").read_text()))
    assert (DOCS / f"{STEM}.md").read_text() == report(kept)

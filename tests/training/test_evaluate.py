import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.training import examinee
from training import evaluate
from training.attacks import setting
from training.checkpoint import CheckpointError
from training.config import Method
from training.evaluate import Evaluation
from training.figures import NAMES

STRONG = setting.parse("linf:0.1:0.05:10")
WEAK = setting.parse("linf:1/255:1/255:2")  # turns nothing over
QUIET = Console(file=io.StringIO())


def evaluated(method: Method = "aat++", **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"attacks": (STRONG,), "batch_size": 5}
    return Evaluation(**(settings | options))(examinee.subject(method), QUIET)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return evaluated(attacks=(STRONG, WEAK))


@pytest.mark.parametrize("inputs", [0, 1])
def test_figures_of_the_model_on_paper(document: dict[str, Any], inputs: int) -> None:
    eleven, ten, none = 11 / 12, 10 / 12, 0.0
    expected = {
        "accuracy_standard_natural": eleven,
        "accuracy_robust_natural": eleven,
        "accuracy_nonrobust_natural": ten,
        "accuracy_corrected_natural": eleven,
        "false_alarm_rate": 1 / 12,
        "accuracy_standard_under_standard_attack": none,
        "accuracy_robust_under_standard_attack": eleven,
        "accuracy_nonrobust_under_standard_attack": none,
        "accuracy_robust_under_robust_attack": eleven,
        "accuracy_robust_under_nonrobust_attack": eleven,
        "accuracy_nonrobust_under_nonrobust_attack": none,
        "accuracy_corrected_under_standard_attack": eleven,
        "dia_own_attacks": eleven,
        "dia_standard_attack": eleven,
        "rad_successful": eleven,
        "rad_all": eleven,
        "rad_mixture": eleven,
        "flagged_nonrobust_attack": eleven,
        "accuracy_robust_successful": eleven,
        "accuracy_standard_mixture": eleven / 2,
        "accuracy_corrected_mixture": eleven,
        "auroc_successful": 121 / 144,
        "auroc_all": 121 / 144,
        "tpr_at_fpr_1_all": none,
        "tpr_at_fpr_5_successful": none,
        "threshold_at_fpr_1": 1 - 1 / (1 + 2.718281828459045**0.3),
    }
    metrics = document["results"][inputs]["metrics"]
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_an_attack_that_is_too_weak(document: dict[str, Any]) -> None:
    metrics = document["results"][2]["metrics"]
    assert metrics["accuracy_nonrobust_under_nonrobust_attack"] == 10 / 12
    assert metrics["rad_all"] == 1 / 12


def test_one_flat_mapping_for_each_attack_and_rounding(document: dict[str, Any]) -> None:
    named = [(result["attack"]["name"], result["inputs"]) for result in document["results"]]
    assert named == [
        (STRONG.name, "rounded"),
        (STRONG.name, "float"),
        (WEAK.name, "rounded"),
        (WEAK.name, "float"),
    ]
    for result in document["results"]:
        assert tuple(result["metrics"]) == NAMES
        assert result["absent"] == {}
        for name, (low, high) in result["intervals"].items():
            assert low <= result["metrics"][name] <= high


def test_rounding_can_undo_an_attack() -> None:
    """A tenth of a level is enough in floats, and gone from the 8-bit image."""
    subject = examinee.subject()
    dark, bright = torch.tensor([[122, 128], [133, 127]], dtype=torch.uint8)
    subject.images.pixels[:5, 0, 0] = dark  # -5.5 + 10 * 0.5 levels: just below the middle
    subject.images.pixels[5:, 0, 0] = bright  # 5.5 - 10 * 0.5 levels: just above
    attack = setting.parse("linf:0.1/255:0.1/255:4")
    rounded, exact = Evaluation(attacks=(attack,))(subject, QUIET)["results"]
    name = "accuracy_standard_under_standard_attack"
    assert (rounded["metrics"][name], exact["metrics"][name]) == (1.0, 0.0)
    assert rounded["metrics"]["rad_successful"] is None
    assert rounded["absent"]["rad_successful"] == "no attack on the standard way succeeded"


def test_says_what_was_measured_on_what(document: dict[str, Any]) -> None:
    subject = examinee.subject()
    assert document["dataset"] == "MNIST"
    assert document["split"] == "test"
    assert document["n_images"] == 12
    assert document["weights_sha256"] == "1" * 64
    assert document["model"] == {
        "name": "examinee",
        "method": "aat++",
        "backbone": "small_cnn",
        "norm": "linf",
        "eps": "0.1",
        "seed": 0,
        "step": 6,
        "steps": 6,
        "commit": "c0ffee",
    }
    assert document["data"] == {
        "source": "mnist:data",
        "split_seed": 0,
        "available": 200,
        "sha256": subject.images.digest(),
        "index": list(range(100, 112)),
    }
    assert document["results"][0]["attack"] == {
        "name": "linf:0.1:0.05:10",
        "norm": "linf",
        "eps": "0.1",
        "step_size": "0.05",
        "steps": 10,
        "random_start": True,
    }
    assert document["torch"] == torch.__version__
    assert document["device"] == "CPU"
    assert document["seconds"] >= 0
    assert not any("finished" in note for note in document["notes"])


def test_same_seed_same_results() -> None:
    assert evaluated(seed=5)["results"] == evaluated(seed=5)["results"]


def test_model_that_is_still_training() -> None:
    subject = examinee.subject()
    header = dataclasses.replace(subject.header, step=5)
    early = dataclasses.replace(subject, header=header)
    notes = Evaluation(attacks=(WEAK,))(early, QUIET)["notes"]
    assert notes[-1] == "The model was evaluated before its training had finished."


def test_best_epoch_is_told() -> None:
    subject = examinee.subject()
    config = dataclasses.replace(subject.header.config, keep="best")
    header = dataclasses.replace(subject.header, step=5, config=config)
    kept = dataclasses.replace(subject, header=header)
    notes = Evaluation(attacks=(WEAK,))(kept, QUIET)["notes"]
    assert "the one that withstood most" in notes[-1]


def test_data_name() -> None:
    assert evaluated(dataset="MNIST, cropped")["dataset"] == "MNIST, cropped"


def test_one_way_model() -> None:
    document = evaluated("st")
    metrics, absent = document["results"][0]["metrics"], document["results"][0]["absent"]
    measured = {name: value for name, value in metrics.items() if value is not None}
    assert measured == {
        "accuracy_nonrobust_natural": 10 / 12,
        "accuracy_nonrobust_under_nonrobust_attack": 0.0,
    }
    assert set(absent) == set(NAMES) - set(measured)
    assert set(absent.values()) == {"needs a way that the method st does not train"}


def test_model_that_answers_with_nan() -> None:
    subject = examinee.subject()
    with torch.no_grad():
        next(subject.model.parameters()).fill_(torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        Evaluation(attacks=(STRONG,))(subject, QUIET)


def test_progress_reaches_the_end_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    Evaluation(attacks=(STRONG,), batch_size=5)(examinee.subject(), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "linf:0.1:0.05:10 on the nonrobust way" in shown


def test_files_replace_an_earlier_evaluation(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("old")
    path = evaluate.write(document, tmp_path)
    assert json.loads(path.read_text()) == document
    assert (tmp_path / "evaluation.md").read_text().startswith("# examinee on MNIST\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["evaluation.json", "evaluation.md"]

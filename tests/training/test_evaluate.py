import dataclasses
import io
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.training import examinee
from training import answers, evaluate, predict
from training.attacks import setting
from training.checkpoint import CheckpointError
from training.config import Method
from training.evaluate import Collected, Evaluation
from training.figures import NAMES
from training.files import OutputError
from training.scratch import Part, Scratch
from training.shard import parse
from training.subject import Subject

STRONG = setting.parse("linf:0.1:0.05:10")
WEAK = setting.parse("linf:1/255:1/255:2")  # turns nothing over
QUIET = Console(file=io.StringIO())


def evaluated(method: Method = "aat++", **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"attacks": (STRONG,), "batch_size": 5}
    return asked(Evaluation(**(settings | options)), examinee.subject(method))


def asked(evaluation: Evaluation, subject: Subject) -> dict[str, Any]:
    return examinee.evaluated(evaluation, subject, QUIET)[0]


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
    rounded, exact = asked(Evaluation(attacks=(attack,)), subject)["results"]
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
        "loss": {"asymmetric": 1.0, "robust": 1.0, "nonrobust": 1.0},
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
    assert document["attacks"] == [STRONG.name, WEAK.name]
    assert (document["seed"], document["batch_size"]) == (0, 5)
    assert document["torch"] == torch.__version__
    assert document["device"] == "CPU"
    (made,) = document["made_by"]
    assert made == {
        "commit": document["commit"],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": "CPU",
        "threads": torch.get_num_threads(),
        "batches": 3 + 2 * 3 * 3,
    }
    assert 0 <= document["seconds"] < 60
    assert not any("finished" in note for note in document["notes"])


def test_same_seed_same_results() -> None:
    assert evaluated(seed=5)["results"] == evaluated(seed=5)["results"]


def test_model_that_is_still_training() -> None:
    subject = examinee.subject()
    header = dataclasses.replace(subject.header, step=5)
    early = dataclasses.replace(subject, header=header)
    notes = asked(Evaluation(attacks=(WEAK,)), early)["notes"]
    assert notes[-1] == "The model was evaluated before its training had finished."


def test_best_epoch_is_told() -> None:
    subject = examinee.subject()
    config = dataclasses.replace(subject.header.config, keep="best")
    header = dataclasses.replace(subject.header, step=5, config=config)
    kept = dataclasses.replace(subject, header=header)
    notes = asked(Evaluation(attacks=(WEAK,)), kept)["notes"]
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
        "ece_nonrobust_natural": pytest.approx(metrics["ece_nonrobust_natural"]),
        "ece_nonrobust_under_nonrobust_attack": pytest.approx(
            metrics["ece_nonrobust_under_nonrobust_attack"]
        ),
    }
    assert set(absent) == set(NAMES) - set(measured)
    assert set(absent.values()) == {"needs a way that the method st does not train"}


def test_model_that_answers_with_nan_leaves_nothing(tmp_path: Path) -> None:
    subject = examinee.subject()
    with torch.no_grad():
        next(subject.model.parameters()).fill_(torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        keep(Evaluation(attacks=(STRONG,)), tmp_path, subject=subject)
    assert list(tmp_path.iterdir()) == []


def test_progress_reaches_the_end_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    examinee.evaluated(Evaluation(attacks=(STRONG,), batch_size=5), examinee.subject(), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    assert "linf:0.1:0.05:10 on the nonrobust way" in shown


def keep(
    evaluation: Evaluation,
    place: Path,
    share: str = "1/1",
    subject: Subject | None = None,
    console: Console = QUIET,
) -> Collected | None:
    """Ask a share and leave the parts under `place`."""
    about = subject or examinee.subject()
    return evaluation(about, evaluation.scratch(about, place), console, parse(share))


def same(one: Collected | None, other: Collected | None) -> bool:
    assert one is not None
    assert other is not None
    mine, theirs = one.answered.arrays, other.answered.arrays
    return list(mine) == list(theirs) and all(
        np.array_equal(array, theirs[name]) for name, array in mine.items()
    )


SMALL = Evaluation(attacks=(STRONG, WEAK), batch_size=5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Collected | None:
    """What one uninterrupted process is answered."""
    return keep(SMALL, tmp_path_factory.mktemp("whole"))


class Killed(Exception):
    pass


def killed_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> list[int]:
    """Positions of the attacks that were run; the next one does not come to its end."""
    ran: list[int] = []

    def attacked(*arguments: Any, position: int, **options: Any) -> torch.Tensor:
        if len(ran) == batches:
            raise Killed
        ran.append(position)
        return whole_attack(*arguments, position=position, **options)

    whole_attack = predict.attacked
    monkeypatch.setattr("training.predict.attacked", attacked)
    return ran


@pytest.mark.parametrize("batches", [0, 4, 17])
def test_killed_run_goes_on_where_it_was(
    whole: Collected | None, batches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        killed_after(patch, batches)
        with pytest.raises(Killed):
            keep(SMALL, tmp_path)
    torch.manual_seed(99)  # as another process, which has drawn other numbers
    ran = killed_after(monkeypatch, 100)
    console = Console(file=io.StringIO())
    resumed = keep(SMALL, tmp_path, console=console)
    assert len(ran) == 18 - batches
    assert f"{3 + batches} of 21 batches there" in console.file.getvalue()  # type: ignore[attr-defined]
    assert same(resumed, whole)


def test_damaged_batch_is_asked_again(
    whole: Collected | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(SMALL, tmp_path)
    path = tmp_path / "evaluation.partial/linf_0.1_0.05_10/robust/000005.npz"
    path.write_bytes(path.read_bytes()[:100])
    ran = killed_after(monkeypatch, 1)
    assert same(keep(SMALL, tmp_path), whole)
    assert ran == [5]


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ({"seed": 1}, "seed"),
        ({"batch_size": 4}, "batch_size"),
        ({"attacks": (STRONG,)}, "attacks"),
        ({"attacks": (WEAK, STRONG)}, "attacks"),
    ],
)
def test_batches_of_other_settings_are_refused(
    setting: dict[str, Any], changed: str, tmp_path: Path
) -> None:
    keep(SMALL, tmp_path)
    with pytest.raises(OutputError, match=rf"parts of other work \({changed} differ\)"):
        keep(dataclasses.replace(SMALL, **setting), tmp_path)


def test_batches_of_another_subject_are_refused(tmp_path: Path) -> None:
    subject = examinee.subject()
    keep(SMALL, tmp_path, subject=subject)
    header = dataclasses.replace(subject.header, weights_sha256="2" * 64)
    pixels = subject.images.pixels.clone()
    pixels[3, 0, 1, 1] += 1
    for other, changed in (
        (dataclasses.replace(subject, header=header), "weights_sha256"),
        (dataclasses.replace(subject, split="validation"), "split"),
        (dataclasses.replace(subject, index=tuple(range(12))), "index"),
        (
            dataclasses.replace(subject, images=dataclasses.replace(subject.images, pixels=pixels)),
            "data_sha256",
        ),
    ):
        with pytest.raises(OutputError, match=rf"\({changed} differ\)"):
            keep(SMALL, tmp_path, subject=other)


def test_batches_of_another_torch_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(SMALL, tmp_path)
    monkeypatch.setattr("torch.__version__", "2.0.0")
    with pytest.raises(OutputError, match=r"\(torch differ\)"):
        keep(SMALL, tmp_path)


def test_shares_in_any_order_are_the_whole(whole: Collected | None, tmp_path: Path) -> None:
    consoles = [Console(file=io.StringIO()) for _ in range(3)]
    third, first, second = (
        keep(SMALL, tmp_path, share, console=console)
        for share, console in zip(("3/3", "1/3", "2/3"), consoles, strict=True)
    )
    assert third is None
    assert first is None
    assert same(second, whole)
    told = consoles[1].file.getvalue()  # type: ignore[attr-defined]
    assert told == (
        f"{tmp_path / 'evaluation.partial'}: 14 of 21 batches there, nothing written yet; "
        "missing: 7 of --shard 2/3\n"
    )


def test_shares_of_two_machines_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = examinee.subject()
    keep(SMALL, tmp_path, "1/2")
    monkeypatch.setattr("platform.platform", lambda: "elsewhere")
    document = SMALL.document(subject, keep(SMALL, tmp_path, "2/2") or pytest.fail("not whole"))
    assert [(made["platform"], made["batches"]) for made in document["made_by"]][1] == (
        "elsewhere",
        10,
    )
    assert "in more than one place" in document["notes"][-1]


def test_share_that_comes_second_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process finds all batches and clears them away before this one looks."""
    subject = examinee.subject()
    console = Console(file=io.StringIO())
    put = Scratch.put

    def put_and_lose(scratch: Scratch, name: str, part: Part) -> None:
        put(scratch, name, part)
        if name == "linf_1-255_1-255_2/nonrobust/000010":
            scratch.discard()

    monkeypatch.setattr(Scratch, "put", put_and_lose)
    assert keep(SMALL, tmp_path, subject=subject, console=console) is None
    assert "another process has put the parts" in console.file.getvalue()  # type: ignore[attr-defined]


def test_answers_are_those_that_the_figures_are_made_of(whole: Collected | None) -> None:
    assert whole is not None
    found = whole.answered
    assert found.label.tolist() == examinee.images().label.tolist()
    assert found.index.tolist() == list(range(100, 112))
    assert len(found.arrays) == 2 + 3 + 2 * 3 * 2 * 3
    logits = {name: array for name, array in found.arrays.items() if "/" in name}
    assert {(array.shape, array.dtype.name) for array in logits.values()} == {((12, 2), "float32")}
    said = found.arrays["linf:0.1:0.05:10/standard/rounded/robust"]
    assert (said.argmax(axis=1) == found.label).mean() == 11 / 12


def test_files_replace_an_earlier_evaluation(whole: Collected | None, tmp_path: Path) -> None:
    assert whole is not None
    document = SMALL.document(examinee.subject(), whole)
    (tmp_path / "evaluation.json").write_text("old")
    path = evaluate.write(document, whole.answered, tmp_path)
    assert json.loads(path.read_text()) == document
    text = (tmp_path / "evaluation.md").read_text()
    assert text.startswith("# examinee on MNIST\n")
    plots = [f"evaluation-{name}.svg" for name in ("reliability", "roc", "scores")]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "answers.npz",
        *plots,
        "evaluation.json",
        "evaluation.md",
    ]
    assert all(f"]({name})" in text for name in plots)
    assert answers.load(tmp_path / "answers.npz").arrays.keys() == whole.answered.arrays.keys()


def test_plots_of_an_earlier_model_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "evaluation-roc.svg").write_text("of three ways")
    document, answered = examinee.evaluated(
        Evaluation(attacks=(WEAK,)), examinee.subject("st"), QUIET
    )
    evaluate.write(document, answered, tmp_path)
    assert [path.name for path in tmp_path.glob("*.svg")] == ["evaluation-reliability.svg"]
    assert "evaluation-roc.svg" not in (tmp_path / "evaluation.md").read_text()

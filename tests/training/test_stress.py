"""The stress test on the model on paper: what it must find, and what it must not claim."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.training import examinee
from training import stress, stress_table
from training.attacks.adaptive import Adaptive
from training.attacks.autoattack import AutoAttack
from training.cli import main
from training.config import ConfigError, Norm
from training.data import Images
from training.stress import Stress
from training.subject import Subject
from training.threat import ThreatModel

CLASSES = ("cat", "dog")
SURE = 1 - 1 / (1 + math.exp(-0.3))  # the score of an image whose robust pixel is 0.3 away


def quiet() -> Console:
    return Console(file=io.StringIO())


def calibration() -> Images:
    """The ten plain images, all of one score."""
    return examinee.images().take(slice(10))


def run(settings: Stress, subject: Subject | None = None) -> dict[str, Any]:
    return settings(subject or examinee.subject(), quiet(), calibration=calibration())


SETTINGS = Stress(eps=("0.31", "0.1", "0.61"), steps=20, targets=1)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The robust pixel is 0.3 from its boundary, the other 0.03."""
    return run(SETTINGS)


def counted(document: dict[str, Any], policy: str, kind: str = "fooled") -> list[float]:
    return [12 * result["worst"][policy][kind]["value"] for result in document["results"]]


def test_natural_images(document: dict[str, Any]) -> None:
    """Image 10 is a false alarm, image 11 is wrong in every way."""
    for policy in document["natural"]:
        shares = document["natural"][policy]
        assert 12 * shares["fooled"]["value"] == pytest.approx(1)
        assert 12 * shares["rejected"]["value"] == pytest.approx(float(policy != "correct"))
        assert 12 * shares["false_alarms"]["value"] == pytest.approx(1)


def test_thresholds_come_from_the_calibration_images(document: dict[str, Any]) -> None:
    """They have no image like 10, whose score is higher."""
    found = {policy["name"]: policy["threshold"] for policy in document["policies"]}
    assert [found[policy] for policy in ("reject", "correct", "strict")] == [None] * 3
    graded = [found[policy] for policy in ("score 1%", "score 5%", "strict and score 5%")]
    assert graded == pytest.approx([SURE] * 3)
    assert document["n_calibration"] == 10


@pytest.mark.parametrize("policy", ["reject", "correct", "strict"])
def test_fooled_exactly_where_the_robust_way_can_be_turned(
    document: dict[str, Any], policy: str
) -> None:
    assert [result["eps"] for result in document["results"]] == ["0.1", "0.31", "0.61"]
    assert counted(document, policy) == pytest.approx([1, 12, 12])
    near, far, _ = document["results"]
    assert 12 * near["robust_accuracy"]["value"] == pytest.approx(11)
    assert (12 * near["bound"], far["bound"]) == (pytest.approx(1), 1.0)


@pytest.mark.parametrize("policy", ["score 1%", "score 5%", "strict and score 5%"])
def test_a_score_asks_for_the_robust_way_to_be_sure(document: dict[str, Any], policy: str) -> None:
    """As sure as of a natural image: 0.3 beyond its boundary, which 0.61 reaches and 0.31 not."""
    assert counted(document, policy) == pytest.approx([1, 1, 12])
    assert counted(document, policy, "rejected") == pytest.approx([11, 11, 0])
    assert counted(document, policy, "unfooled") == pytest.approx([11, 11, 0])
    assert counted(document, policy, "sound") == pytest.approx([10, 10, 0])


@pytest.mark.parametrize("attack", ["selective", "weighted sum", "below score 1%"])
def test_an_attack_on_the_score_gets_there_alone(document: dict[str, Any], attack: str) -> None:
    (found,) = (
        policies
        for name, policies in document["results"][2]["attacks"].items()
        if name.startswith(attack)
    )
    assert found["score 5%"]["fooled"]["value"] == 1.0


def test_a_plain_attack_alone_is_held_back(document: dict[str, Any]) -> None:
    """The one on the standard way turns the fragile pixel only; the choice of attacks is worse."""
    near = document["results"][0]
    for policy in ("reject", "score 1%"):
        alone = near["attacks"]["standard way"][policy]
        assert 12 * alone["rejected"]["value"] == pytest.approx(11)
    assert list(near["attacks"]) == [
        *("standard way", "robust way", "sum of all ways", "unflagged error"),
        *("unflagged error below score 1%", "unflagged error below score 5%"),
        *("weighted sum with the score", "selective on the score", "orthogonal on the score"),
        *("unanimous ways", "below score 1%", "below score 5%"),
    ]


def test_an_attack_that_does_not_know(document: dict[str, Any]) -> None:
    """Every standard way is wrong; image 11 was so without a flag, and its score even falls."""
    found = document["results"][0]["oblivious"]
    assert found["succeeded"]["value"] == 1.0
    for policy in ("reject", "strict", "score 5%"):
        for part in ("successful", "all"):
            assert 12 * found["flagged"][policy][part]["value"] == pytest.approx(11)
    assert found["auroc"]["successful"] == pytest.approx(11 * 11 / 144)


def test_alarms_are_cheap(document: dict[str, Any]) -> None:
    """1/255 does not turn the fragile pixel over, 0.03 does."""
    assert 12 * document["alarm"]["flagged"]["value"] == pytest.approx(1)
    found = run(Stress(eps=("0.1",), alarm_eps="0.04", steps=5, targets=1))["alarm"]
    assert 12 * found["flagged"]["value"] == pytest.approx(12)


def test_checks_pass_and_fail(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    failed = [check["name"] for check in document["checks"] if not check["passed"]]
    assert failed == []
    monkeypatch.setattr(Adaptive, "__call__", lambda self, answer, image, label: image)
    found = run(Stress(eps=("0.1",), steps=1, targets=1))
    assert found["checks"][0]["passed"] is False
    assert "**FAILED**: with eps 1" in stress_table.render(found)


def of_norm(norm: Norm, eps: str) -> Subject:
    subject = examinee.subject()
    attack = replace(subject.header.config.attack, norm=norm, eps=eps)
    config = replace(subject.header.config, attack=attack)
    return replace(subject, header=replace(subject.header, config=config))


def test_an_l2_ball_that_holds_every_image() -> None:
    """Of radius 1 it does not: the check would blame the attack."""
    found = run(Stress(eps=("0.2",), steps=20, targets=1), of_norm("l2", "0.2"))
    assert found["checks"][0]["name"].startswith("with eps 2 ")  # four pixels
    assert [check["name"] for check in found["checks"] if not check["passed"]] == []
    assert counted(found, "strict") == pytest.approx([1])


def test_autoattack_joins_the_worst_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the images that it is given; here it turns all that it sees, so that others stay."""
    seen = []

    def turn(self: AutoAttack, model: Any, image: Any, label: Any, *, warn: Any) -> Any:
        seen.append((self.way, len(image)))
        warn("a warning")
        return (1.0 - label.float()).view(-1, 1, 1, 1).expand_as(image)

    monkeypatch.setattr(AutoAttack, "__call__", turn)
    settings = Stress(eps=("0.05", "0.1"), steps=3, targets=1, autoattack=("0.10",), batch_size=3)
    found = run(replace(settings, autoattack_count=5))
    assert seen == [("standard", 3), ("standard", 2), ("robust", 3), ("robust", 2)]
    assert found["results"][0]["autoattack"] is None
    auto = found["results"][1]["autoattack"]
    assert auto["n_images"] == 5
    assert auto["robust"]["accuracy"]["value"] == 0.0
    assert auto["robust"]["warnings"] == ["a warning"]
    assert found["results"][1]["bound"] >= 5 / 12
    assert counted(found, "strict")[1] >= 5
    text = stress_table.render(found)
    assert "on 5 of the images" in text
    assert "it warns at eps 0.1, robust way: a warning" in text


def test_autoattack_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.stress._AUTO", ("robust",))
    found = run(Stress(eps=("0.31",), steps=3, targets=1, autoattack=("0.31",), autoattack_count=3))
    assert found["results"][0]["autoattack"]["robust"]["accuracy"]["value"] == 0.0


def test_autoattack_refuses_sign_steps() -> None:
    with pytest.raises(ConfigError, match="AutoAttack has no l2_sign"):
        AutoAttack(threat=ThreatModel(norm="l2_sign", eps=0.3), way="robust")


def test_a_model_of_sign_steps_is_searched_in_its_ball() -> None:
    """Sign steps are a weak way to search the ball of l2, so that l2 is what is tried."""
    few = replace(SETTINGS, eps=("0.2",))
    by_sign, by_l2 = (run(few, of_norm(norm, "0.2")) for norm in ("l2_sign", "l2"))
    assert by_sign["results"] == by_l2["results"]


def test_the_same_seed_gives_the_same_figures(document: dict[str, Any]) -> None:
    again = run(SETTINGS)
    changing = ("created", "seconds")
    assert {key: again[key] for key in again if key not in changing} == {
        key: document[key] for key in document if key not in changing
    }


def test_a_method_of_one_way_has_no_detector() -> None:
    with pytest.raises(ConfigError, match="three ways"):
        run(Stress(eps=("0.1",)), examinee.subject("at"))


def test_table(document: dict[str, Any]) -> None:
    text = stress_table.render(document)
    assert "images: MNIST, test split, 12 drawn by seed 0" in text
    assert "trained against linf 0.1" in text
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| 0")]
    assert [row[1].strip() for row in rows[:4]] == ["0", "0.1", "0.31", "0.61"]
    assert rows[1][3].strip() == "8.3 (1.5 to 35.4)"
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an untrained network, whose data is taken for that of its training."""
    examinee.write_images(tmp_path / "data", CLASSES)
    source = f"imagefolder:{tmp_path / 'data'}"
    examinee.write_checkpoint(tmp_path / "checkpoint.safetensors", source, CLASSES)
    monkeypatch.setattr(Images, "digest", lambda self: "0" * 64)
    return tmp_path


def command(folder: Path, *options: str) -> int:
    quick = ("--device", "cpu", "--count", "2", "--steps", "2", "--targets", "1")
    return main(["stress", str(folder), *quick, *options])


def test_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder gets all files."""
    status = command(folder, "--data-name", "noise", "--eps", "16/255", "--eps", "0.1")
    written = json.loads((folder / stress.JSON_FILE).read_text())
    assert [result["eps"] for result in written["results"]] == ["16/255", "0.1"]
    assert written["dataset"] == "noise"
    assert written["n_calibration"] == 1
    assert status == int(not all(check["passed"] for check in written["checks"]))
    printed = capsys.readouterr().out
    assert "eps 16/255, in %: robust way" in printed
    assert (folder / stress.TABLE_FILE).exists()
    assert (folder / stress.PLOT_FILE).exists()


def test_autoattack_is_at_the_models_own_eps_unless_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoAttack, "__call__", lambda self, model, image, label, *, warn: image)
    command(folder, "--eps", "0.05", "--autoattack", "--autoattack", "0.2")
    written = json.loads((folder / stress.JSON_FILE).read_text())
    given = {result["eps"]: result["autoattack"] is not None for result in written["results"]}
    assert given == {"0.05": False, "0.1": True, "0.2": True}


def test_a_curve_has_the_eps_that_were_asked_for_too(folder: Path) -> None:
    """Each distance once, however it is written."""
    command(folder, "--curve", "--eps", "0.10", "--eps", "0.3", "--steps", "1", "--restarts", "0")
    written = json.loads((folder / stress.JSON_FILE).read_text())
    found = [result["eps"] for result in written["results"]]
    assert found == ["0.0125", "0.025", "0.05", "0.1", "0.15", "0.2", "0.3"]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--eps", "0"], "no room for an attack"),
        (["--alarm-eps", "x"], "not a distance"),
        (["--eps", "-1"], "is negative"),
        (["--autoattack", "far"], "not a distance"),
        (["--split", "calibration"], "thresholds are read from the calibration split"),
        (["--autoattack-count", "3"], "without --autoattack"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stress", str(tmp_path), *options]) == 1
    printed = capsys.readouterr().err
    assert fault in printed
    assert printed.count("\n") == 1

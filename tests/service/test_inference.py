"""What is asked of the session and how its answers are measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.decision import Finding
from service.inference import infer
from service.manifest import LOGITS, OUTPUTS
from service.mixture import Mixture, mixed
from service.repository import load_model
from service.scores import softmax
from tests.service.toy import GAIN, ToyFolder, pixels, toy_answers, toy_head

IMAGE = np.divide(pixels(1, 1, 1)[None], 255, dtype=np.float32)


def test_infer_uses_the_temperatures_of_the_manifest(toy: ToyFolder) -> None:
    (plain,) = infer(load_model(toy.path, provider="cpu", threads=1), [IMAGE[None]])
    toy.changes["decision"] = {"temperatures": {"standard": 10.0}}
    toy.write()
    (soft,) = infer(load_model(toy.path, provider="cpu", threads=1), [IMAGE[None]])
    assert isinstance(plain, Finding)
    assert isinstance(soft, Finding)
    assert soft.standard.label == plain.standard.label
    assert soft.standard.probability == pytest.approx(np.e / (np.e + 2), abs=1e-3)
    assert soft.robust == plain.robust


def test_toy_answers_are_the_networks(toy: ToyFolder) -> None:
    image = np.random.default_rng(1).random((3, 1, 4, 4), np.float32)
    session = load_model(toy.path, provider="cpu", threads=1).session
    for name, values in session.run("image", image, OUTPUTS).items():
        assert values == pytest.approx(toy_answers(image)[name], abs=1e-5)


def asked_of(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The outputs that each run asks for, as they come."""
    asked: list[tuple[str, ...]] = []
    run = model.session.run

    def watched(name: str, batch: Any, outputs: Any) -> Any:
        asked.append(tuple(outputs))
        return run(name, batch, outputs)

    monkeypatch.setattr(model.session, "run", watched)
    return asked


def test_features_are_asked_for_only_where_the_head_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_model(ToyFolder(tmp_path / "plain").write().path, provider="cpu", threads=1)
    folder = ToyFolder(tmp_path / "head", head=toy_head()).write()
    headed = load_model(folder.path, provider="cpu", threads=1)
    bright = IMAGE.copy()
    bright[0, 3, 0] = 0.5
    for model, outputs in ((plain, LOGITS), (headed, OUTPUTS)):
        asked = asked_of(model, monkeypatch)
        findings = infer(model, [IMAGE[None], bright[None]])
        assert asked == [outputs]
    dark, seen = findings
    assert isinstance(dark, Finding)
    assert isinstance(seen, Finding)
    assert dark.score == 0.5
    assert seen.score == pytest.approx(1 / (1 + np.exp(-GAIN * 0.5)), abs=1e-6)


def test_infer_uses_the_mixture_of_the_manifest(toy: ToyFolder) -> None:
    toy.changes["decision"] = {"mixture": {"weight": 0.7, "scale": 2.0, "power": 1.5}}
    toy.write()
    (finding,) = infer(load_model(toy.path, provider="cpu", threads=1), [IMAGE[None]])
    assert isinstance(finding, Finding)
    assert finding.mixed is not None
    answers = toy_answers(IMAGE[None])
    p = softmax(answers["logits_standard"])
    expected = mixed(p, answers["logits_robust"], Mixture(0.7, 2.0, 1.5))
    assert finding.mixed.label == 1
    assert finding.mixed.probability == pytest.approx(expected[0, 1], abs=1e-5)

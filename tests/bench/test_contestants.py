"""The newest model, its samples, and how servers are set up."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.bench import contestants, rivals
from tests.bench.contestants import PEERS, Contestant
from tests.bench.measurement import ROOT


def test_the_newest_version_is_the_highest_number(tmp_path: Path) -> None:
    for name in ("1", "9", "10", "draft"):
        (tmp_path / "mnist" / name).mkdir(parents=True)
    assert contestants.newest(tmp_path, "mnist").name == "10"


def test_samples_are_those_of_the_shipped_model() -> None:
    shown = contestants.samples(contestants.newest(ROOT / "models", "mnist"))
    assert len(shown.files) == len(shown.labels) == len(shown.pixels) > 1
    assert shown.pixels.shape[1:] == (1, 28, 28)
    assert shown.pixels.dtype == np.float32
    assert 0 <= shown.pixels.min() < shown.pixels.max() <= 1
    kinds = contestants.ours(Path("python"), Path("models"), shown).kinds
    assert [kind.images for kind in kinds] == [1, 1, 1, 64]
    for kind in kinds:
        assert [len(labels) for labels in kind.labels] == [kind.images] * len(kind.requests)


@pytest.mark.parametrize("made", [rivals.plain, rivals.litserve, rivals.bentoml, rivals.mlserver])
def test_peers_get_the_model_and_what_they_can_read(
    made: Callable[..., Contestant],
) -> None:
    model = contestants.newest(ROOT / "models", "mnist")
    shown = contestants.samples(model)
    peer = made(Path("/peer/bin/python"), model / "model.onnx", shown)
    assert peer.python == Path("/peer/bin/python")
    assert peer.env["MODEL"].endswith("model.onnx")
    assert {"1"} <= {variant["THREADS"] for variant in peer.variants}
    (kind,) = peer.kinds
    assert len(kind.requests) == len(kind.labels) == len(shown.files)


@pytest.mark.parametrize("peer", ["plain", "litserve", "bentoml", "mlserver"])
def test_requirements_are_pinned(peer: str) -> None:
    lines = (PEERS / f"{peer}.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w-]+(\[\w+\])?==[\d.]+", line)] == []

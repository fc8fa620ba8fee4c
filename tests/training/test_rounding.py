"""The stage `round`: what is rounded, what stays, and that every stage sees the rounded weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import examinee, tiny
from training import checkpoint, rounding
from training.checkpoint import Checkpoint, ImageShape, build_model, weights_digest
from training.cli import main
from training.config import ConfigError

KERNEL = "encoder_robust.stages.0.conv1.weight"
NORM = "encoder_robust.stages.0.norm1"
QUICK = "linf:0.1:0.05:2"


@pytest.fixture
def plain() -> Checkpoint:
    """Of a network with BatchNorm, as a run leaves it."""
    torch.manual_seed(0)
    experiment = tiny.config(model={"backbone": "preact_resnet18"})
    shape = ImageShape(channels=1, height=16, width=16)
    weights = dict(build_model(experiment, shape, 2).state_dict())
    header = examinee.header(experiment, shape, ("a", "b"), weights_digest(weights))
    return Checkpoint(header=header, model=weights, averaged=weights, optimizer={})


def test_kernels_and_matrices_are_rounded_and_vectors_are_not(plain: Checkpoint) -> None:
    made = rounding.rounded(plain)
    for name, weight in made.averaged.items():
        before = plain.averaged[name]
        if before.ndim > 1:
            assert torch.equal(weight, before.half())
        else:
            assert torch.equal(weight, before)
            assert weight.dtype == torch.float32
    left_out = plain.averaged.keys() - made.averaged.keys()
    assert left_out == {name for name in plain.averaged if name.endswith("num_batches_tracked")}
    assert not made.model
    assert made.header == replace(
        plain.header,
        weights_sha256=weights_digest(made.averaged),
        rounded_from=plain.header.weights_sha256,
    )


@pytest.mark.parametrize("variance", [1e-9, 1e6, 1e30])
def test_running_variances_beyond_half_precision_stay(plain: Checkpoint, variance: float) -> None:
    plain.averaged[f"{NORM}.running_var"].fill_(variance)
    made = rounding.rounded(plain)
    assert made.averaged[f"{NORM}.running_var"].tolist() == pytest.approx([variance], rel=1e-6)
    image = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        before, after = (checkpoint.model_of(part)(image).standard for part in (plain, made))
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ("factor", "kept"), [(1.0, False), (1e4, False), (1e6, True), (1e-6, True), (0.0, False)]
)
def test_a_kernel_too_large_or_too_small_stays_float32(
    plain: Checkpoint, factor: float, kept: bool
) -> None:
    plain.averaged[KERNEL].mul_(factor)
    made = rounding.rounded(plain).averaged[KERNEL]
    assert made.dtype == (torch.float32 if kept else torch.float16)
    torch.testing.assert_close(made.float(), plain.averaged[KERNEL], rtol=2**-8, atol=0.0)


def test_a_file_of_rounded_weights_is_read_as_it_was(plain: Checkpoint, tmp_path: Path) -> None:
    made, path = rounding.rounded(plain), tmp_path / "weights.safetensors"
    checkpoint.save(path, made)
    read = checkpoint.load(path)
    assert read.header == made.header
    assert all(torch.equal(read.averaged[name], made.averaged[name]) for name in made.averaged)
    model, _ = checkpoint.load_model(path, torch.device("cpu"))
    assert {part.dtype for part in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()[KERNEL], plain.averaged[KERNEL].half().float())


def test_weights_are_rounded_once(plain: Checkpoint) -> None:
    with pytest.raises(ConfigError, match="rounded already"):
        rounding.rounded(rounding.rounded(plain))


def figures(place: Path) -> Any:
    document = json.loads(place.read_text())
    return document["weights_sha256"], document["results"]


def test_what_is_measured_is_what_is_shipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a run to a model folder that evaluates exactly like the rounded weights it came from."""
    run, models = tmp_path / "run", tmp_path / "models"
    examinee.write_images(run / "data", ("cat", "dog"), count=4)
    source = f"imagefolder:{run / 'data'}"
    examinee.write_checkpoint(run / checkpoint.RUN_FILE, source, ("cat", "dog"))
    attack = ["--attack", QUICK, "--device", "cpu"]
    export = ["export", "--name", "toy", "--models", str(models)]

    assert main(["round", str(run)]) == 0
    rounded = run / "float16"
    assert "14 of 28 tensors in half precision" in capsys.readouterr().out
    assert main(["evaluate", str(run), *attack]) == 0
    assert main([*export, str(rounded)]) == 1
    assert main([*export, str(rounded), "--evaluation", str(run / "evaluation.json")]) == 1
    assert "is about other weights" in capsys.readouterr().err
    assert main(["evaluate", str(rounded), *attack, "--attack", "linf:0.1:0.0125:20"]) == 0
    assert main([*export, str(rounded)]) == 0

    shipped = models / "toy" / "1"
    assert main(["evaluate", str(shipped), *attack, "--data", source, "--out", str(tmp_path)]) == 0
    digest, results = figures(tmp_path / "evaluation.json")
    assert (digest, results) == (digest, figures(rounded / "evaluation.json")[1][:2])
    assert digest == figures(rounded / "evaluation.json")[0]
    assert digest != figures(run / "evaluation.json")[0]

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.training import tiny
from training.checkpoint import (
    Checkpoint,
    CheckpointError,
    Header,
    ImageShape,
    build_model,
    current_commit,
    flatten_optimizer,
    load,
    load_model,
    restore_optimizer,
    save,
    weights_digest,
    weights_only,
)
from training.files import OutputError
from training.run import make_optimizer

SHAPE = ImageShape(channels=1, height=16, width=16)


def example(step: int = 7) -> Checkpoint:
    """Odd names and shapes: a scalar, an integer, a transposed matrix, a name with dots."""
    torch.manual_seed(step)
    experiment = tiny.config(optimizer={"milestones": [1, 2]})
    averaged = dict(build_model(experiment, SHAPE, 2).state_dict())
    return Checkpoint(
        header=Header(
            config=experiment,
            shape=SHAPE,
            classes=("æble", "b c"),
            step=step,
            steps_per_epoch=3,
            seconds=1.5,
            commit="c0ffee+changes",
            data_sha256="0" * 64,
            weights_sha256=weights_digest(averaged),
            device="CPU",
            torch="2",
        ),
        model={"a.b.weight": torch.randn(3, 4).t(), "count": torch.tensor(5)},
        averaged=averaged,
        optimizer={"a.b.weight/step": torch.tensor(7.0), "a.b.weight/exp_avg": torch.randn(4, 3)},
    )


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "checkpoint.safetensors"
    save(path, example())
    return path


def test_round_trip(path: Path) -> None:
    loaded, expected = load(path), example()
    assert loaded.header == expected.header
    assert_equal(loaded.model, expected.model)
    assert_equal(loaded.averaged, expected.averaged)
    assert_equal(loaded.optimizer, expected.optimizer)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_tied_tensors_are_written_twice(tmp_path: Path) -> None:
    """Without an average the used weights are the trained ones, the very same memory."""
    saved = example()
    save(tmp_path / "a.safetensors", replace(saved, model=saved.averaged))
    loaded = load(tmp_path / "a.safetensors")
    assert_equal(loaded.model, loaded.averaged)


@pytest.mark.parametrize(("step", "finished"), [(8, False), (9, True)])
def test_finished(step: int, finished: bool) -> None:
    assert example(step).header.finished is finished  # three epochs of three steps


def test_load_model(path: Path) -> None:
    model, header = load_model(path, torch.device("cpu"))
    assert header == example().header
    assert_equal(dict(model.state_dict()), example().averaged)
    assert not any(module.training for module in model.modules())
    assert model.classes == 2


def test_weights_only(path: Path) -> None:
    small = path.with_name("small.safetensors")
    save(small, weights_only(load(path)))
    loaded = load(small)
    assert (loaded.model, loaded.optimizer) == ({}, {})
    assert loaded.header == example().header
    assert_equal(loaded.averaged, example().averaged)


@pytest.mark.parametrize(("where", "function"), [(os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize(
    ("fault", "raised"),
    [(OSError(28, "No space"), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_failure_leaves_the_old_file(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    function: str,
    fault: BaseException,
    raised: type[BaseException],
) -> None:
    """The draft is there when it fails: not yet safe on the disk, or not yet in its place."""

    def fail(*arguments: object) -> None:
        assert len(list(path.parent.iterdir())) == 2
        raise fault

    monkeypatch.setattr(where, function, fail)
    with pytest.raises(raised, match=r"cannot write .*checkpoint\.safetensors: No space|^$"):
        save(path, example(step=8))
    monkeypatch.undo()
    assert load(path).header.step == 7
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_others_may_read_it(path: Path) -> None:
    """A service that runs as another user reads what is shipped."""
    (plain := path.with_name("plain")).write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


def test_impossible_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save(tmp_path / "file" / "checkpoint.safetensors", example())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_text(path: Path) -> None:
    path.write_text("not a checkpoint at all, only some words")


def replace_by_foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


def rewrite(path: Path, change: Callable[[dict[str, Tensor], Any], object]) -> None:
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["parallax"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    change(tensors, document)
    save_file(tensors, path, metadata={"parallax": json.dumps(document)})


def change_weight(path: Path) -> None:
    rewrite(path, lambda tensors, _: tensors["averaged.head.2.bias"].add_(1e-6))


def rename_weight(path: Path) -> None:
    def rename(tensors: dict[str, Tensor], _: object) -> None:
        tensors["averaged.head.9.bias"] = tensors.pop("averaged.head.2.bias")

    rewrite(path, rename)


def change_state(group: str) -> Callable[[Path], None]:
    def change(tensors: dict[str, Tensor], _: object) -> None:
        name = next(name for name in tensors if name.startswith(group))
        tensors[name] = tensors[name] + 1

    return lambda path: rewrite(path, change)


def newer_format(path: Path) -> None:
    rewrite(path, lambda _, document: document.update(format=2))


def without_header_field(path: Path) -> None:
    rewrite(path, lambda _, document: document.pop("step"))


def with_unknown_config(path: Path) -> None:
    rewrite(path, lambda _, document: document["config"].update(colour=1))


def with_strange_group(path: Path) -> None:
    rewrite(path, lambda tensors, _: tensors.update(x=torch.zeros(1)))


def metadata_is_no_json(path: Path) -> None:
    save_file({"model.a": torch.zeros(2)}, path, metadata={"parallax": "{"})


def metadata_is_a_list(path: Path) -> None:
    save_file({"model.a": torch.zeros(2)}, path, metadata={"parallax": "[]"})


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (cut, "cannot read checkpoint"),
        (shorten, "cannot read checkpoint"),
        (empty, "cannot read checkpoint"),
        (remove, "cannot read checkpoint"),
        (replace_by_folder, "cannot read checkpoint"),
        (replace_by_text, "cannot read checkpoint"),
        (replace_by_foreign, "is not a checkpoint of format 1"),
        (newer_format, "is not a checkpoint of format 1"),
        (change_weight, "the weights do not match their hash"),
        (rename_weight, "the weights do not match their hash"),
        (change_state("model."), "what a run goes on from does not match its hash"),
        (change_state("optimizer."), "what a run goes on from does not match its hash"),
        (without_header_field, "the header is damaged: step is missing"),
        (with_unknown_config, "the header is damaged: .*colour is not a key"),
        (with_strange_group, "the header is damaged: 'x'"),
        (metadata_is_no_json, "the header is damaged"),
        (metadata_is_a_list, "the header is damaged"),
    ],
)
def test_damaged(path: Path, damage: Callable[[Path], None], fault: str) -> None:
    damage(path)
    with pytest.raises(CheckpointError, match=fault) as refusal:
        load(path)
    assert path.name in str(refusal.value)


def test_digest_is_of_names_and_values() -> None:
    weights = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    digest = weights_digest(weights)
    assert weights_digest(dict(reversed(weights.items()))) == digest
    assert weights_digest({"a": torch.tensor([1.0, 2.5]), "b": weights["b"]}) != digest
    assert weights_digest({"a": weights["a"], "c": weights["b"]}) != digest
    grid = torch.arange(6.0).view(2, 3)
    assert weights_digest({"a": grid.t()}) == weights_digest({"a": grid.t().contiguous()})


def step(optimizer: torch.optim.Optimizer, model: nn.Linear, seed: int) -> None:
    torch.manual_seed(seed)
    model(torch.randn(2, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("name", "slots"), [("sgd", {"momentum_buffer"}), ("adamw", {"step", "exp_avg", "exp_avg_sq"})]
)
def test_optimizer_state(name: str, slots: set[str]) -> None:
    """Restored into a fresh optimiser it takes the same next steps, bit for bit."""
    settings = tiny.config(optimizer={"name": name}).optimizer
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(settings, model)
    for seed in (1, 2):
        step(optimizer, model, seed)
    flat = {key: value.clone() for key, value in flatten_optimizer(optimizer, model).items()}
    assert flat.keys() == {f"{side}/{slot}" for side in ("weight", "bias") for slot in slots}

    twin = nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    second = make_optimizer(settings, twin)
    restore_optimizer(second, twin, flat)
    for seed in (3, 4):
        step(optimizer, model, seed)
        step(second, twin, seed)
    assert_equal(dict(twin.state_dict()), dict(model.state_dict()))
    assert_equal(flatten_optimizer(second, twin), flatten_optimizer(optimizer, model))
    assert second.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_parameters_without_gradient_have_no_state() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "idle": nn.Linear(3, 2)})
    optimizer = make_optimizer(tiny.config().optimizer, model)
    model["used"](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    flat = flatten_optimizer(optimizer, model)
    assert flat.keys() == {"used.weight/momentum_buffer", "used.bias/momentum_buffer"}
    second = make_optimizer(tiny.config().optimizer, model)
    restore_optimizer(second, model, flat)
    assert_equal(flatten_optimizer(second, model), flat)


def test_commit_outside_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", absent)
    assert current_commit() == "unknown"


@pytest.mark.parametrize(("changes", "commit"), [("", "abc"), (" M run.py", "abc+changes")])
def test_commit(monkeypatch: pytest.MonkeyPatch, changes: str, commit: str) -> None:
    def git(arguments: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        output = {"rev-parse": "abc\n", "status": changes}[arguments[1]]
        return subprocess.CompletedProcess(arguments, 0, stdout=output)

    monkeypatch.setattr(subprocess, "run", git)
    assert current_commit() == commit

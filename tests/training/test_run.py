"""A run step by step; above all that a resumed one equals an uninterrupted one bit for bit."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training import tiny
from tests.training.crew import crew
from training import augment, schedule
from training.checkpoint import Checkpoint, state_digest, weights_only
from training.config import Config, ConfigError
from training.data import Images, to_float
from training.distributed import World
from training.objective import Objective
from training.run import Run, epoch_order, make_optimizer, moving_average
from training.three_way import ThreeWayModel

CPU = torch.device("cpu")
ALONE = World(device=CPU)
SGD = {"clip_norm": 1.0, "ema": 0.9, "schedule": "one_cycle", "warm_up": 0.2}
FULL = tiny.config(
    optimizer=SGD, data={"shift": 1, "flip": True}, attack={"ramp": 0.5}, method="aat++"
)
ADAMW = tiny.config(optimizer={**SGD, "name": "adamw", "lr": 0.001}, precision="bfloat16")
PLAIN = tiny.config(method="st")
COMPILED = tiny.config(
    model={"backbone": "preact_resnet18", "width": 1},
    optimizer={"ema": 0.9, "lr": 0.01},
    compute={"compile": True},
)
PREACT = tiny.config(model={"backbone": "preact_resnet18", "width": 2}, optimizer={"ema": 0.5})


def run_of(config: Config, steps: int = 0, images: Images | None = None) -> Run:
    run = Run(config, tiny.images() if images is None else images, ALONE)
    for _ in range(steps):
        run.advance()
    return run


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    for group in ("model", "averaged", "optimizer"):
        ours, theirs = getattr(one, group), getattr(other, group)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), name


def copied(checkpoint: Checkpoint) -> Checkpoint:
    """As a file would keep it: values that later steps do not reach."""

    def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in tensors.items()}

    return Checkpoint(
        header=checkpoint.header,
        model=copies(checkpoint.model),
        averaged=copies(checkpoint.averaged),
        optimizer=copies(checkpoint.optimizer),
    )


@pytest.mark.parametrize("config", [FULL, ADAMW, PLAIN, PREACT], ids=lambda c: c.model.backbone)
@pytest.mark.parametrize("before", [1, 3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(config: Config, before: int) -> None:
    """Three steps an epoch: within the first, at its end, and within the second."""
    whole = run_of(config, 7)
    first = copied(run_of(config, before).snapshot(seconds=0.0))
    torch.manual_seed(999)  # whatever happened in between
    second = run_of(config)
    second.restore(first)
    assert second.step == before
    for _ in range(7 - before):
        second.advance()
    assert_same(second.snapshot(seconds=0.0), whole.snapshot(seconds=0.0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at it itself
def test_a_compiled_run_resumes_and_starts_as_an_eager_one() -> None:
    whole = run_of(COMPILED)
    losses = [float(whole.advance().total.detach()) for _ in range(2)]
    first = copied(run_of(COMPILED, 1).snapshot(seconds=0.0))
    second = run_of(COMPILED)
    second.restore(first)
    second.advance()
    assert_same(second.snapshot(seconds=0.0), whole.snapshot(seconds=0.0))
    eager = run_of(replace(COMPILED, compute=replace(COMPILED.compute, compile=False)))
    expected = [float(eager.advance().total.detach()) for _ in range(2)]
    assert losses == pytest.approx(expected, rel=1e-2)
    assert losses[0] == pytest.approx(expected[0], rel=1e-4)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    one, same, other = (run_of(tiny.config(seed=seed), 2) for seed in (3, 3, 4))
    assert_same(one.snapshot(seconds=0.0), same.snapshot(seconds=0.0))
    weights = [dict(run.model.named_parameters())["head.0.weight"] for run in (one, other)]
    assert not torch.equal(*weights)


def test_a_step_by_hand() -> None:
    """Batch, augmentation, rate, ramp, clipping and average, put together here from their parts."""
    config, images = FULL, tiny.images()
    run = run_of(config, 4)
    expected = run_of(config, 4)
    model = expected._model
    torch.manual_seed(config.seed * 1_000_003 + 4)
    chosen = epoch_order(config.seed, 1, len(images))[4:8]  # second batch of the second epoch
    batch = images.take(chosen)
    image = augment.random_flip(augment.random_shift(to_float(batch.pixels), 1))
    ramp = schedule.ramp(0.5, step=4, total=9)
    terms = Objective(config=config)(model, image, batch.label, ramp=ramp)
    gradients = torch.autograd.grad(terms.total, list(model.parameters()))
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert length > 1.0  # so that clipping is seen
    rate = schedule.learning_rate(config.optimizer, step=4, steps_per_epoch=3)
    state = expected._optimizer.state
    wanted = {}
    for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
        momentum = 0.9 * state[weight]["momentum_buffer"] + gradient / length + 5e-4 * weight
        wanted[name] = weight - rate * momentum
    average = dict(expected.model.named_parameters())
    averaged = {name: average[name].lerp(wanted[name], 1 - 5 / 14) for name in wanted}
    seen = run.advance()
    assert torch.equal(seen.total, terms.total)
    for name, weight in run._model.named_parameters():
        torch.testing.assert_close(weight, wanted[name])
    for name, weight in run.model.named_parameters():
        torch.testing.assert_close(weight, averaged[name])


def test_every_image_once_an_epoch() -> None:
    orders = [epoch_order(0, epoch, 50).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert epoch_order(0, 1, 50).tolist() == orders[1]
    assert epoch_order(1, 1, 50).tolist() != orders[1]


def test_the_average_forgets_its_first_weights() -> None:
    update = moving_average(0.9)
    averaged = [torch.tensor([1.0])]
    seen = []
    for count in range(200):
        update(averaged, [torch.tensor([0.0])], count)
        seen.append(float(averaged[0]))
    by_hand, weight = [], 1.0
    for count in range(200):
        weight *= min(0.9, (1 + count) / (10 + count))
        by_hand.append(weight)
    assert seen == pytest.approx(by_hand)
    assert seen[0] == pytest.approx(0.1)


def test_without_average_the_model_is_the_last() -> None:
    run = run_of(PLAIN, 1)
    snapshot = run.snapshot(seconds=0.0)
    assert run.model is run._model
    assert snapshot.model.keys() == snapshot.averaged.keys()


def test_batch_statistics_of_the_average_are_the_models() -> None:
    """A buffer is not averaged: EMA of a running mean would lag behind the weights twice."""
    run = run_of(PREACT, 3)
    buffers = dict(run._model.named_buffers())
    assert buffers
    for name, value in run.model.named_buffers():
        assert torch.equal(value, buffers[name])


def test_snapshot_says_where_it_comes_from() -> None:
    header = run_of(FULL, 2).snapshot(seconds=1.26).header
    assert (header.step, header.steps_per_epoch, header.seconds) == (2, 3, 1.3)
    assert header.config == FULL
    assert header.classes == ("even", "odd")
    assert header.data_sha256 == tiny.images().digest()
    assert header.device == "CPU"
    assert not header.finished


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizer(name: str, kind: type) -> None:
    config = tiny.config(optimizer={"name": name, "lr": 0.5, "momentum": 0.8}).optimizer
    optimizer = make_optimizer(config, nn.Linear(2, 1))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 5e-4)
    assert group.get("momentum", group.get("betas", [None])[0]) == 0.8


def test_too_few_images() -> None:
    with pytest.raises(ConfigError, match="batch_size=4 is more than 3 images"):
        run_of(PLAIN, images=tiny.images(3))


@pytest.mark.parametrize(
    ("config", "images", "fault"),
    [
        (
            tiny.config(method="st", seed=9, optimizer={"lr": 1.0}, compute={"joint": True}),
            tiny.images(),
            r"another experiment, which differs in seed, optimizer\.lr, compute\.joint; .* --run",
        ),
        (PLAIN, tiny.images(seed=1), "other images"),
    ],
)
def test_a_foreign_checkpoint_is_refused(config: Config, images: Images, fault: str) -> None:
    checkpoint = run_of(PLAIN, 1).snapshot(seconds=0.0)
    with pytest.raises(ConfigError, match=fault):
        run_of(config, images=images).restore(checkpoint)


def test_the_images_may_have_moved() -> None:
    """Another machine keeps them elsewhere; their hash is what counts."""
    first = run_of(PLAIN, 2).snapshot(seconds=0.0)
    moved = run_of(tiny.config(method="st", data={"source": "mnist:elsewhere"}))
    moved.restore(first)
    moved.advance()
    snapshot = moved.snapshot(seconds=0.0)
    assert snapshot.header.config.data.source == "mnist:elsewhere"
    assert_same(snapshot, run_of(PLAIN, 3).snapshot(seconds=0.0))


def test_shipped_weights_cannot_be_resumed() -> None:
    checkpoint = weights_only(run_of(PLAIN, 1).snapshot(seconds=0.0))
    with pytest.raises(ConfigError, match="weights only"):
        run_of(PLAIN).restore(checkpoint)


def test_training_mode_is_on_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    original = Objective.__call__

    def watched(self: Objective, model: ThreeWayModel, *rest: object, **more: object) -> object:
        modes.append(model.training)
        return original(self, model, *rest, **more)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(Objective, "__call__", watched)
    run = run_of(PLAIN)
    run.model.eval()
    run.advance()
    assert modes == [True]


STEPS = {
    f"{norm} {method}": tiny.config(
        method=method,
        attack={"norm": norm},
        data={"shift": 1, "flip": True},
        compute={"joint": joint},
    )
    for norm, method, joint in (
        ("l2", "aat++", False),
        ("l2", "aat", True),
        ("l2", "at", True),
        ("linf", "st", False),
    )
}


def first_step(world: World, config: Config) -> tuple[dict[str, Any], dict[str, float]]:
    """Gradients and losses; dropout, augmentation and random starts are on."""
    run = Run(config, tiny.images(), world)
    terms = run.advance()
    gradients = {
        name: weight.grad.numpy()
        for name, weight in run._model.named_parameters()
        if weight.grad is not None
    }
    named = {"total": terms.total, **terms.parts}
    return gradients, {name: float(value.detach()) for name, value in (named | terms.kept).items()}


def first_steps(world: World) -> dict[str, tuple[dict[str, Any], dict[str, float]]]:
    return {name: first_step(world, config) for name, config in STEPS.items()}


def test_two_processes_step_as_one_with_the_whole_batch() -> None:
    alone = first_steps(ALONE)
    for told in crew(first_steps):
        assert told is not None
        for name, (gradients, losses) in told.result.items():
            expected, expected_losses = alone[name]
            assert losses == pytest.approx(expected_losses, rel=1e-5), name
            assert gradients.keys() == expected.keys()
            for weight, gradient in gradients.items():
                largest = abs(expected[weight]).max()
                assert abs(gradient - expected[weight]).max() <= 1e-4 * largest + 1e-7, weight


def several_steps(world: World) -> tuple[str, list[str], str]:
    """Digests after seven steps, of batch statistics too, whole and resumed after four."""
    digests = []
    for config in (FULL, ADAMW, PREACT):
        whole = Run(config, tiny.images(), world)
        for _ in range(4):
            whole.advance()
        second = Run(config, tiny.images(), world)
        second.restore(copied(whole.snapshot(seconds=0.0)))
        for run in (whole, second):
            for _ in range(3):
                run.advance()
            digests.append(state_digest(run.snapshot(seconds=0.0)))
    return world.hardware, digests, whole.fingerprint()


def test_all_processes_hold_the_same_weights_and_resume_bit_for_bit() -> None:
    first, second = crew(several_steps)
    assert first is not None
    assert first == second
    hardware, digests, _ = first.result
    assert hardware == "2 x CPU"
    assert digests[::2] == digests[1::2]
    assert len(set(digests)) == 3


def test_a_batch_without_equal_shares_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size=4 does not divide among 3 processes"):
        Run(PLAIN, tiny.images(), World(device=CPU, size=3))

"""The methods by name, with attacks that are spied on and equations that are added up here."""

import math
from collections.abc import Callable
from typing import NamedTuple, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.training import tiny
from training.attacks.fused import FusedPGD, WayClassifier
from training.attacks.pgd import PGD
from training.backbones.preact_resnet import PreActBlock, PreActResNet18
from training.checkpoint import ImageShape, build_model
from training.config import Config, Method, Way
from training.objective import TRAINED_WAYS, Objective

STEPS = {
    "standard": {"steps": 2, "step_size": "0.1"},
    "robust": {"steps": 3, "step_size": "0.06"},
    "nonrobust": {"steps": 1, "step_size": "0.2"},
}


def config(method: Method, **sections: object) -> Config:
    return tiny.config(method=method, attack=STEPS, **sections)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(6, 1, 16, 16, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])


class Seen(NamedTuple):
    """One attack: its setting, whether the model was in eval mode, what came out."""

    attack: PGD
    frozen: bool
    adversarial: Tensor


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """Every attack of the objective, in order."""
    calls: list[Seen] = []
    original = FusedPGD.__call__

    def watched(
        self: FusedPGD, classifier: WayClassifier, image: Tensor, label: Tensor
    ) -> dict[Way, Tensor]:
        adversarial = original(self, classifier, image, label)
        with torch.no_grad():
            once, twice = (classifier(adversarial) for _ in range(2))
        for way, attack in self.attacks.items():
            calls.append(Seen(attack, torch.equal(once[way], twice[way]), adversarial[way]))
        return adversarial

    monkeypatch.setattr(FusedPGD, "__call__", watched)
    return calls


@pytest.mark.parametrize(
    ("method", "steps", "parts", "kept"),
    [
        ("st", [], set(), set()),
        ("at", [3], set(), set()),
        ("aat", [2], {"standard", "asymmetric"}, {"standard"}),
        (
            "aat++",
            [2, 3, 1],
            {"standard", "asymmetric", "robust", "nonrobust"},
            {"standard", "nonrobust"},
        ),
    ],
)
def test_attacks_and_terms(
    seen: list[Seen], method: Method, steps: list[int], parts: set[str], kept: set[str]
) -> None:
    terms = Objective(config=config(method))(tiny.model(), *batch())
    assert [call.attack.steps for call in seen] == steps
    assert all(call.frozen for call in seen)  # dropout would answer differently each time
    assert set(terms.parts) == parts
    assert set(terms.kept) == kept
    if parts:
        total = sum(float(part.detach()) for part in terms.parts.values())
        assert float(terms.total.detach()) == pytest.approx(total)


@pytest.mark.parametrize(
    ("weights", "steps", "parts"),
    [
        ({"asymmetric": 0, "robust": 0, "nonrobust": 0}, [], {"standard"}),
        ({"asymmetric": 0, "nonrobust": 0}, [3], {"standard", "robust"}),
        ({"robust": 0}, [2, 1], {"standard", "asymmetric", "nonrobust"}),
    ],
)
def test_a_weight_of_zero_leaves_a_term_and_its_attack_out(
    seen: list[Seen], weights: dict[str, float], steps: list[int], parts: set[str]
) -> None:
    terms = Objective(config=config("aat++", loss=weights))(tiny.model(), *batch())
    assert [call.attack.steps for call in seen] == steps
    assert set(terms.parts) == parts


def test_weights_multiply_their_terms() -> None:
    weights = {"asymmetric": 2.0, "robust": 3.0, "nonrobust": 0.5}
    made, parts = tiny.model().eval(), {}
    for name, loss in (("plain", {}), ("weighted", weights)):
        torch.manual_seed(0)
        parts[name] = Objective(config=config("aat++", loss=loss))(made, *batch()).parts
    for term, value in parts["plain"].items():
        assert float(parts["weighted"][term].detach()) == pytest.approx(
            weights.get(term, 1.0) * float(value.detach())
        )


def test_aat_is_aat_plus_plus_without_its_auxiliary_terms() -> None:
    made = tiny.model().eval()
    totals = []
    for experiment in (
        config("aat"),
        config("aat++", loss={"robust": 0, "nonrobust": 0}),
    ):
        torch.manual_seed(0)
        totals.append(float(Objective(config=experiment)(made, *batch()).total.detach()))
    assert totals[0] == totals[1]


def test_every_method_names_its_ways() -> None:
    assert set(TRAINED_WAYS) == set(get_args(Method))


@pytest.mark.parametrize(
    ("method", "without"),
    [("st", {"encoder_robust"}), ("at", {"encoder_nonrobust"}), ("aat", set()), ("aat++", set())],
)
def test_which_parts_are_trained(method: Method, without: set[str]) -> None:
    made = tiny.model()
    Objective(config=config(method))(made, *batch()).total.backward()
    untouched = {
        name.partition(".")[0] for name, value in made.named_parameters() if value.grad is None
    }
    assert untouched == without
    assert {name.partition(".")[0] for name, _ in made.named_parameters()} - untouched
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert all(module.training for module in made.modules())


def surprise(logits: Tensor, label: Tensor) -> list[float]:
    """Cross entropy of each image in plain arithmetic."""
    return [
        math.log(sum(math.exp(value) for value in row)) - row[index]
        for row, index in zip(logits.tolist(), label.tolist(), strict=True)
    ]


@pytest.mark.parametrize("method", ["st", "at", "aat", "aat++"])
def test_total_equals_the_equations(seen: list[Seen], method: Method) -> None:
    """On the adversarial images that the attacks gave; an eval-mode model has no dropout."""
    made = tiny.model().eval()
    image, label = batch()
    terms = Objective(config=config(method))(made, image, label)

    def mean(of: Tensor, way: Way, target: Tensor, mask: Tensor | None = None) -> float:
        with torch.no_grad():
            each = surprise(made.way(of, way), target)
        weights = [1.0] * len(each) if mask is None else mask.float().tolist()
        return sum(one * weight for one, weight in zip(each, weights, strict=True)) / len(each)

    def fooled(of: Tensor, way: Way) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            predicted = made.way(of, way).argmax(dim=1)
        return predicted, predicted != label

    x = [call.adversarial for call in seen]
    if method == "st":
        expected = mean(image, "nonrobust", label)
    elif method == "at":
        expected = mean(image, "robust", label) + mean(x[0], "robust", label)
    else:
        y_s, wrong = fooled(x[0], "standard")
        assert 0 < float(terms.kept["standard"]) == pytest.approx(float(wrong.float().mean()))
        expected = sum(mean(image, way, label) for way in get_args(Way))
        expected += mean(x[0], "robust", label, wrong) + mean(x[0], "nonrobust", y_s, wrong)
    if method == "aat++":
        y_n, wrong = fooled(x[2], "nonrobust")
        assert 0 < float(terms.kept["nonrobust"]) == pytest.approx(float(wrong.float().mean()))
        expected += mean(x[1], "robust", label) + mean(x[2], "nonrobust", y_n, wrong)
    assert float(terms.total.detach()) == pytest.approx(expected, rel=1e-5)


def test_each_attack_is_against_its_own_way(seen: list[Seen]) -> None:
    """It raises that way's loss; a start at the image leaves nothing to chance."""
    made = tiny.model().eval()
    image, label = batch()
    Objective(config=config("aat++"))(made, image, label)
    for way, call in zip(get_args(Way), seen, strict=True):
        with torch.no_grad():
            before, after = (
                float(cross_entropy(made.way(shown, way), label))
                for shown in (image, call.adversarial)
            )
        assert after > before


@pytest.mark.parametrize(("ramp", "eps", "step_size"), [(1.0, 0.2, 0.06), (0.25, 0.05, 0.015)])
def test_ramp_scales_ball_and_step(
    seen: list[Seen], ramp: float, eps: float, step_size: float
) -> None:
    image, label = batch()
    Objective(config=config("at"))(tiny.model(), image, label, ramp=ramp)
    (call,) = seen
    assert call.attack.threat.eps == pytest.approx(eps)
    assert call.attack.step_size == pytest.approx(step_size)
    assert call.attack.steps == 3
    moved = call.attack.threat.distance(call.adversarial - image)
    assert (moved <= eps + 1e-6).all()
    assert (moved > 0.5 * eps).all()


def test_attack_leaves_running_statistics_alone() -> None:
    """In `st` and `aat++` alike each norm sees its images in train mode, and those alone."""
    torch.manual_seed(0)
    experiment = tiny.config(model={"backbone": "preact_resnet18", "width": 2})
    made = build_model(experiment, ImageShape(channels=1, height=16, width=16), 3)
    image, label = batch()
    Objective(config=config("aat++"))(made, image, label)
    batches = {
        name.partition(".")[0]: int(value)
        for name, value in made.state_dict().items()
        if name.endswith("num_batches_tracked")
    }
    # Natural, x_s and the encoder's own x: three forward passes in train mode, whatever the steps.
    assert batches == {"encoder_robust": 3, "encoder_nonrobust": 3}


@pytest.mark.parametrize("method", ["st", "at", "aat", "aat++"])
def test_bfloat16_stays_close(method: Method) -> None:
    """Same images and weights: float32 losses within a hundredth, weights still float32."""
    image, label = batch()
    totals = {}
    for precision in ("float32", "bfloat16"):
        made = tiny.model().eval()
        torch.manual_seed(0)
        terms = Objective(config=config(method, precision=precision))(made, image, label)
        terms.total.backward()
        assert terms.total.dtype == torch.float32
        assert all(
            parameter.grad is None or parameter.grad.dtype == torch.float32
            for parameter in made.parameters()
        )
        totals[precision] = float(terms.total.detach())
    assert totals["bfloat16"] == pytest.approx(totals["float32"], rel=0.01)
    assert totals["bfloat16"] != totals["float32"]


@pytest.mark.parametrize("method", ["at", "aat", "aat++"])
@pytest.mark.parametrize("backbone", ["small_cnn", "preact_resnet18"])
def test_fused_and_separate_attacks_train_the_same(method: Method, backbone: str) -> None:
    gradients = {}
    for fused in (True, False):
        made = tiny.model(backbone).eval()
        torch.manual_seed(0)
        total = Objective(config=config(method, compute={"fused": fused}))(made, *batch()).total
        total.backward()
        gradients[fused] = [value.grad for value in made.parameters() if value.grad is not None]
    for one, other in zip(gradients[True], gradients[False], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["at", "aat", "aat++"])
def test_joint_batches_change_batch_statistics_alone(method: Method) -> None:
    """In eval mode there are none; in train mode an encoder then sees one batch, not three."""
    totals = {}
    for joint in (True, False):
        made = tiny.model("preact_resnet18").eval()
        torch.manual_seed(0)
        terms = Objective(config=config(method, compute={"joint": joint}))(made, *batch())
        totals[joint] = float(terms.total.detach())
    assert totals[True] == pytest.approx(totals[False], rel=1e-5)
    made = tiny.model("preact_resnet18")
    Objective(config=config(method, compute={"joint": True}))(made, *batch())
    tracked = made.state_dict()["encoder_robust.stages.0.norm1.num_batches_tracked"]
    assert int(tracked) == 1


def test_stem_and_head_are_exact_under_autocast() -> None:
    """What goes into the losses and what comes from the pixels is float32, the rest is not."""
    made = tiny.model("preact_resnet18")
    kinds: dict[str, set[torch.dtype]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: kinds.setdefault(name, set()).update(
            (inputs[0].dtype, output.dtype)
        )

    encoder = made.encoder_robust
    assert isinstance(encoder, PreActResNet18)
    encoder.stem.register_forward_hook(watch("stem"))
    made.head.register_forward_hook(watch("head"))
    block = encoder.stages[2]
    assert isinstance(block, PreActBlock)
    block.conv2.register_forward_hook(watch("block"))
    Objective(config=config("aat++", precision="bfloat16"))(made, *batch())
    assert kinds["stem"] == kinds["head"] == {torch.float32}
    assert torch.bfloat16 in kinds["block"]

"""From a batch to the training loss of a method: attack, predict, add up (Algorithm 1).

Knows the methods by name and which attacks each needs. It does not step, schedule or log; the
equations themselves are in `losses`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training import losses
from training.attacks.pgd import PGD, Classifier, frozen
from training.config import AttackConfig, Config, Method, Way, parse_eps
from training.threat import ThreatModel
from training.three_way import Logits, ThreeWayModel

TRAINED_WAYS: dict[Method, tuple[Way, ...]] = {
    "st": ("nonrobust",),  # one-way baselines use one way of the same model (section 3.1)
    "at": ("robust",),
    "aat": ("standard", "robust", "nonrobust"),
    "aat++": ("standard", "robust", "nonrobust"),
}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """`total` to differentiate; `parts` and `kept` shares, by name, to log."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)


def attack_on(config: AttackConfig, way: Way, ramp: float = 1.0) -> PGD:
    """The training attack on one way, ball and step both scaled by `ramp`."""
    step = {"standard": config.standard, "robust": config.robust, "nonrobust": config.nonrobust}
    return PGD(
        threat=ThreatModel(norm=config.norm, eps=parse_eps(config.eps) * ramp),
        steps=step[way].steps,
        step_size=parse_eps(step[way].step_size) * ramp,
    )


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of `config.method`. `ramp` in [0, 1] scales the attacks."""

    config: Config

    def __call__(
        self, model: ThreeWayModel, image: Tensor, label: Tensor, *, ramp: float = 1.0
    ) -> Terms:
        """Losses of one batch, `image` (N, C, H, W) in [0, 1], `label` (N,)."""
        methods: dict[Method, Callable[[], Terms]] = {
            "st": lambda: self._standard_training(model, image, label),
            "at": lambda: self._adversarial_training(model, image, label, ramp),
            "aat": lambda: self._aat(model, image, label, ramp),
            "aat++": lambda: self._aat_plus_plus(model, image, label, ramp),
        }
        return methods[self.config.method]()

    def _autocast(self, device: torch.device) -> torch.autocast:
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled)

    def _way(self, model: ThreeWayModel, way: Way) -> Classifier:
        def classify(image: Tensor) -> Tensor:
            with self._autocast(image.device):
                return model.way(image, way).float()

        return classify

    def _attacked(
        self, model: ThreeWayModel, way: Way, image: Tensor, label: Tensor, ramp: float
    ) -> tuple[Tensor, Tensor]:
        """Adversarial images against one way, and what that way makes of them."""
        classify = self._way(model, way)
        with frozen(model):
            adversarial = attack_on(self.config.attack, way, ramp)(classify, image, label)
            with torch.no_grad():
                return adversarial, classify(adversarial).argmax(dim=1)

    def _standard_training(self, model: ThreeWayModel, image: Tensor, label: Tensor) -> Terms:
        logits = self._way(model, "nonrobust")(image)
        return Terms(total=losses.one_way_loss(logits, label))

    def _adversarial_training(
        self, model: ThreeWayModel, image: Tensor, label: Tensor, ramp: float
    ) -> Terms:
        adversarial, _ = self._attacked(model, "robust", image, label, ramp)
        classify = self._way(model, "robust")
        return Terms(total=losses.half_half_loss(classify(image), classify(adversarial), label))

    def _aat(self, model: ThreeWayModel, image: Tensor, label: Tensor, ramp: float) -> Terms:
        x_s, predicted = self._attacked(model, "standard", image, label, ramp)
        with self._autocast(image.device):
            natural, fooled = _predict(model, image), _predict(model, x_s)
        standard = losses.standard_loss(*natural, label)
        asymmetric = losses.asymmetric_loss(fooled.robust, fooled.nonrobust, label, predicted)
        return Terms(
            total=losses.aat_loss(standard, asymmetric),
            parts={"standard": standard, "asymmetric": asymmetric},
            kept={"standard": losses.kept(predicted, label).mean()},
        )

    def _aat_plus_plus(
        self, model: ThreeWayModel, image: Tensor, label: Tensor, ramp: float
    ) -> Terms:
        x_s, predicted_s = self._attacked(model, "standard", image, label, ramp)
        x_r, _ = self._attacked(model, "robust", image, label, ramp)
        x_n, predicted_n = self._attacked(model, "nonrobust", image, label, ramp)
        with self._autocast(image.device):
            natural, fooled = _predict(model, image), _predict(model, x_s)
            robust = model.way(x_r, "robust").float()
            nonrobust = model.way(x_n, "nonrobust").float()
        terms = {
            "standard": losses.standard_loss(*natural, label),
            "asymmetric": losses.asymmetric_loss(
                fooled.robust, fooled.nonrobust, label, predicted_s
            ),
            "robust": losses.robust_loss(robust, label),
            "nonrobust": losses.nonrobust_loss(nonrobust, label, predicted_n),
        }
        return Terms(
            total=losses.aat_plus_plus_loss(**terms),
            parts=terms,
            kept={
                "standard": losses.kept(predicted_s, label).mean(),
                "nonrobust": losses.kept(predicted_n, label).mean(),
            },
        )


def _predict(model: ThreeWayModel, image: Tensor) -> Logits:
    return Logits(*(logits.float() for logits in model(image)))

"""From a batch to the training loss of a method: attack, predict, add up (Algorithm 1).

Knows the methods by name and which attacks each needs. It does not step, schedule or log; the
equations themselves are in `losses`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from training import losses
from training.attacks.fused import FusedPGD
from training.attacks.pgd import PGD, frozen
from training.config import AttackConfig, Config, Method, Way, parse_eps
from training.threat import ThreatModel
from training.three_way import Encoded, ThreeWayModel

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
        threat=ThreatModel(norm=config.norm, eps=parse_eps(config.eps)).scaled(ramp),
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
        short = self.config.precision == "bfloat16"
        with torch.autocast(image.device.type, torch.bfloat16, enabled=short):
            return methods[self.config.method]()

    def _attacked(
        self, model: ThreeWayModel, ways: tuple[Way, ...], image: Tensor, label: Tensor, ramp: float
    ) -> tuple[dict[Way, Tensor], dict[Way, Tensor]]:
        """Adversarial images by the way they fool, and what that way then names them."""
        attacks = {way: attack_on(self.config.attack, way, ramp) for way in ways}
        with frozen(model):
            if self.config.compute.fused:
                adversarial = FusedPGD(attacks=attacks)(model.ways, image, label)
            else:
                adversarial = {
                    way: attack(partial(model.way, way=way), image, label)
                    for way, attack in attacks.items()
                }
            with torch.no_grad():
                logits = model.ways(adversarial)
        return adversarial, {way: part.argmax(dim=1) for way, part in logits.items()}

    def _encode(self, encoder: nn.Module, *images: Tensor) -> Sequence[Tensor]:
        """Features (N, H) of each batch: one after another, or all as one batch to the encoder."""
        if self.config.compute.joint:
            return encoder(torch.cat(images)).split([len(part) for part in images])
        return [encoder(part) for part in images]

    def _standard_training(self, model: ThreeWayModel, image: Tensor, label: Tensor) -> Terms:
        return Terms(total=losses.one_way_loss(model.way(image, "nonrobust"), label))

    def _adversarial_training(
        self, model: ThreeWayModel, image: Tensor, label: Tensor, ramp: float
    ) -> Terms:
        x, _ = self._attacked(model, ("robust",), image, label, ramp)
        encoded = self._encode(model.encoder_robust, image, x["robust"])
        natural, adversarial = (model.decide_robust(z) for z in encoded)
        return Terms(total=losses.half_half_loss(natural, adversarial, label))

    def _aat(self, model: ThreeWayModel, image: Tensor, label: Tensor, ramp: float) -> Terms:
        x, named = self._attacked(model, ("standard",), image, label, ramp)
        z_r, z_r_s = self._encode(model.encoder_robust, image, x["standard"])
        z_n, z_n_s = self._encode(model.encoder_nonrobust, image, x["standard"])
        standard = losses.standard_loss(*model.decide(Encoded(z_r, z_n)), label)
        asymmetric = losses.asymmetric_loss(
            model.decide_robust(z_r_s), model.decide_nonrobust(z_n_s), label, named["standard"]
        )
        return Terms(
            total=losses.aat_loss(standard, asymmetric),
            parts={"standard": standard, "asymmetric": asymmetric},
            kept={"standard": losses.kept(named["standard"], label).mean()},
        )

    def _aat_plus_plus(
        self, model: ThreeWayModel, image: Tensor, label: Tensor, ramp: float
    ) -> Terms:
        x, named = self._attacked(model, TRAINED_WAYS["aat++"], image, label, ramp)
        z_r, z_r_s, z_r_r = self._encode(model.encoder_robust, image, x["standard"], x["robust"])
        z_n, z_n_s, z_n_n = self._encode(
            model.encoder_nonrobust, image, x["standard"], x["nonrobust"]
        )
        terms = {
            "standard": losses.standard_loss(*model.decide(Encoded(z_r, z_n)), label),
            "asymmetric": losses.asymmetric_loss(
                model.decide_robust(z_r_s), model.decide_nonrobust(z_n_s), label, named["standard"]
            ),
            "robust": losses.robust_loss(model.decide_robust(z_r_r), label),
            "nonrobust": losses.nonrobust_loss(
                model.decide_nonrobust(z_n_n), label, named["nonrobust"]
            ),
        }
        return Terms(
            total=losses.aat_plus_plus_loss(**terms),
            parts=terms,
            kept={way: losses.kept(named[way], label).mean() for way in ("standard", "nonrobust")},
        )

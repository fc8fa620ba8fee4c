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
from training.config import AttackConfig, Config, LossConfig, Method, Way, parse_eps
from training.share import WHOLE, Share
from training.threat import ThreatModel
from training.three_way import Encoded, ThreeWayModel

TRAINED_WAYS: dict[Method, tuple[Way, ...]] = {
    "st": ("nonrobust",),  # one-way baselines use one way of the same model (section 3.1)
    "at": ("robust",),
    "aat": ("standard", "robust", "nonrobust"),
    "aat++": ("standard", "robust", "nonrobust"),
}

_AAT = LossConfig(robust=0.0, nonrobust=0.0)  # Eq. 8 is Eq. 11 without its auxiliary terms


@dataclass(frozen=True, kw_only=True)
class Terms:
    """`total` to differentiate; `parts` and `kept` shares, by name, to log."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)


def attack_on(config: AttackConfig, way: Way, ramp: float = 1.0, share: Share = WHOLE) -> PGD:
    """The training attack on one way, ball and step both scaled by `ramp`."""
    step = {"standard": config.standard, "robust": config.robust, "nonrobust": config.nonrobust}
    return PGD(
        threat=ThreatModel(norm=config.norm, eps=parse_eps(config.eps)).scaled(ramp),
        steps=step[way].steps,
        step_size=parse_eps(step[way].step_size) * ramp,
        share=share,
    )


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of `config.method`. `ramp` in [0, 1] scales the attacks.

    `share` says which part of the step's batch the images are; the loss is the mean over that part.
    """

    config: Config
    share: Share = WHOLE

    def __call__(
        self, model: ThreeWayModel, image: Tensor, label: Tensor, *, ramp: float = 1.0
    ) -> Terms:
        """Losses of one batch, `image` (N, C, H, W) in [0, 1], `label` (N,)."""
        methods: dict[Method, Callable[[], Terms]] = {
            "st": lambda: self._standard_training(model, image, label),
            "at": lambda: self._adversarial_training(model, image, label, ramp),
            "aat": lambda: self._three_way(model, image, label, ramp, _AAT),
            "aat++": lambda: self._three_way(model, image, label, ramp, self.config.loss),
        }
        short = self.config.precision == "bfloat16"
        with torch.autocast(image.device.type, torch.bfloat16, enabled=short):
            return methods[self.config.method]()

    def _attacked(
        self, model: ThreeWayModel, ways: tuple[Way, ...], image: Tensor, label: Tensor, ramp: float
    ) -> tuple[dict[Way, Tensor], dict[Way, Tensor]]:
        """Adversarial images by the way they fool, and what that way then names them."""
        attacks = {way: attack_on(self.config.attack, way, ramp, self.share) for way in ways}
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

    def _three_way(
        self, model: ThreeWayModel, image: Tensor, label: Tensor, ramp: float, weights: LossConfig
    ) -> Terms:
        """L_ST and the terms whose weight is not 0, each attack made only where a term needs it."""
        needed: dict[Way, float] = {
            "standard": weights.asymmetric,
            "robust": weights.robust,
            "nonrobust": weights.nonrobust,
        }
        made = tuple(way for way, weight in needed.items() if weight)
        x, named = self._attacked(model, made, image, label, ramp) if made else ({}, {})
        seen_r = [way for way in made if way != "nonrobust"]
        seen_n = [way for way in made if way != "robust"]
        z_r, *rest = self._encode(model.encoder_robust, image, *(x[way] for way in seen_r))
        attacked_r = dict(zip(seen_r, rest, strict=True))
        z_n, *rest = self._encode(model.encoder_nonrobust, image, *(x[way] for way in seen_n))
        attacked_n = dict(zip(seen_n, rest, strict=True))
        terms = {"standard": losses.standard_loss(*model.decide(Encoded(z_r, z_n)), label)}
        if "standard" in made:
            terms["asymmetric"] = weights.asymmetric * losses.asymmetric_loss(
                model.decide_robust(attacked_r["standard"]),
                model.decide_nonrobust(attacked_n["standard"]),
                label,
                named["standard"],
            )
        if "robust" in made:
            terms["robust"] = weights.robust * losses.robust_loss(
                model.decide_robust(attacked_r["robust"]), label
            )
        if "nonrobust" in made:
            terms["nonrobust"] = weights.nonrobust * losses.nonrobust_loss(
                model.decide_nonrobust(attacked_n["nonrobust"]), label, named["nonrobust"]
            )
        masked: tuple[Way, ...] = ("standard", "nonrobust")
        return Terms(
            total=losses.total_loss(**terms),
            parts=terms,
            kept={way: losses.kept(named[way], label).mean() for way in masked if way in made},
        )

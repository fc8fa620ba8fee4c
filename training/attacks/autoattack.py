"""AutoAttack (Croce & Hein 2020) through its authors' package, against the logits of one way.

The package decides what AutoAttack is; here it is only made to behave as the other attacks do: its
randomness follows from torch's generator, it prints nothing, and what it sets in the process is put
back. Knows no policy.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyautoattack
import torch
from torch import Tensor

from training.config import ConfigError, Way
from training.threat import ThreatModel

_NORMS = {"linf": "Linf", "l2": "L2"}
_TARGETS = 9  # of the standard version, where there are as many wrong classes
_FEWEST = 4  # classes that the targeted DLR loss compares
_LOGGER = "auto-attack"


class Model(Protocol):
    """What AutoAttack needs of a three-way model: one way's logits (N, classes)."""

    def way(self, image: Tensor, way: Way) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class AutoAttack:
    """The `standard` version: APGD on cross entropy and on targets, FAB on targets, Square.

    Where there are fewer than ten classes every wrong one is a target; where there are fewer than
    four the targeted APGD, which its loss does not allow there, is left out.
    """

    threat: ThreatModel
    way: Way

    def __post_init__(self) -> None:
        """Raises:
        ConfigError: `l2_sign`, which is a way to move and no ball of its own.
        """
        if self.threat.norm not in _NORMS:
            raise ConfigError(f"AutoAttack has no {self.threat.norm}; it knows linf and l2")

    def __call__(
        self, model: Model, image: Tensor, label: Tensor, *, warn: Callable[[str], object]
    ) -> Tensor:
        """Images like `image` (N, C, H, W) in [0, 1], changed where that fools the way.

        `warn` is told what the package warns of: that its result may flatter the model.
        """
        seed = int(torch.randint(2**31, ()))
        image = image.contiguous()
        with torch.no_grad():
            classes = model.way(image[:1], self.way).shape[1]
        with _contained(image.device, warn):
            attack = pyautoattack.AutoAttack(
                lambda x: model.way(_steady(x), self.way),
                norm=_NORMS[self.threat.norm],
                eps=self.threat.eps,
                seed=seed,
                device=image.device,
                version="custom",
                attacks=["apgd-ce", *(["apgd-t"] if classes >= _FEWEST else []), "fab-t", "square"],
            )
            # What `version="standard"` sets, for as many classes as there are.
            attack.apgd.n_restarts = attack.fab.n_restarts = attack.apgd_targeted.n_restarts = 1
            attack.apgd_targeted.n_target_classes = min(_TARGETS, classes - 1)
            attack.fab.n_target_classes = min(_TARGETS, classes - 1)
            found, _ = attack.run_standard_evaluation(image, label, batch_size=len(image))
        # FAB finds the nearest error and may pass the ball by a rounding.
        inside = (image + self.threat.project(found - image)).clamp(0, 1)
        return inside.detach()


def _steady(x: Tensor) -> Tensor:
    """The same images; the package reshapes gradients in a way that needs them contiguous."""
    if x.requires_grad:
        x = x.clone()
        x.register_hook(lambda gradient: gradient.contiguous())
    return x


class _Teller(logging.Handler):
    def __init__(self, warn: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self.warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        self.warn(record.getMessage())


@contextlib.contextmanager
def _contained(device: torch.device, warn: Callable[[str], object]) -> Iterator[None]:
    """Random state, trace function and logger are as they were at the end."""
    logger = logging.getLogger(_LOGGER)
    before = logger.handlers[:], logger.propagate, logger.level
    traced = sys.gettrace()
    logger.handlers, logger.propagate = [_Teller(warn)], False
    logger.setLevel(logging.WARNING)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
        sys.settrace(traced)

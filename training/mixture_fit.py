"""The mixture's three parameters, by a grid on natural and attacked images, half of each.

After MixedNUTS (Bai et al. 2024): nothing is trained. Pure: answers in, parameters out; what a
mixture is, is `service.mixture`'s.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.mixture import Mixture, mixed
from service.scores import Scores, Temperature, softmax
from training import metrics
from training.metrics import Labels
from training.observed import Observed

# Below a weight of a half a robust way that is certain could not outvote the standard one.
WEIGHTS = (0.5, 0.51, 0.52, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
SCALES = tuple(float(scale) for scale in np.geomspace(0.02, 50.0, 22).round(4))
POWERS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)

_AROUND, _FINER = 1.45, 15  # from one scale of the grid to the next, and how many between

_TINY = 1e-12  # a probability of 0 loses no more than this one


@dataclass(frozen=True, kw_only=True)
class Search:
    """Accuracy on half natural, half attacked images counts first, then the log loss.

    `loses` is how far the natural accuracy may lie below the standard way's; `equal` is how near
    to the best accuracy another is as good, being less than the images can tell apart.
    """

    loses: float = 0.002
    equal: float = 0.001
    weights: Sequence[float] = WEIGHTS
    scales: Sequence[float] = SCALES
    powers: Sequence[float] = POWERS

    def __call__(self, natural: Observed, attacked: Observed, temperature: Temperature) -> Mixture:
        """The best of the grid, then of finer scales around it.

        Where none keeps the natural accuracy, the one that keeps most.
        """
        sides = natural, attacked
        coarse = itertools.product(self.weights, self.scales, self.powers)
        found = self._best(sides, temperature, coarse)
        finer = found.scale * np.geomspace(1.0 / _AROUND, _AROUND, _FINER)
        around = itertools.product([found.weight], finer.tolist(), [found.power])
        return self._best(sides, temperature, around)

    def _best(
        self,
        sides: tuple[Observed, Observed],
        temperature: Temperature,
        grid: Iterable[tuple[float, float, float]],
    ) -> Mixture:
        found = [
            _measured(sides, temperature, mixture) for mixture in itertools.starmap(Mixture, grid)
        ]
        least = metrics.share(~sides[0].fooled) - self.loses
        kept = [one for one in found if one.natural >= least]
        kept = kept or [max(found, key=lambda one: one.natural)]
        best = max(one.accuracy for one in kept)
        near = [one for one in kept if one.accuracy >= best - self.equal]
        return min(near, key=lambda one: one.loss).mixture


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    mixture: Mixture
    natural: float  # accuracy
    accuracy: float  # half natural, half attacked
    loss: float


def probabilities(observed: Observed, temperature: Temperature, mixture: Mixture) -> Scores:
    """The calibrated probability (N, K), as the service answers it."""
    p_standard = softmax(observed.logits.standard, temperature.standard)
    return mixed(p_standard, observed.logits.robust, mixture)


def _measured(
    sides: tuple[Observed, Observed], temperature: Temperature, mixture: Mixture
) -> _Candidate:
    (natural, loss), (attacked, attacked_loss) = (
        _of(probabilities(part, temperature, mixture), part.label) for part in sides
    )
    return _Candidate(
        mixture=mixture,
        natural=natural,
        accuracy=metrics.equal_mixture(natural, attacked),
        loss=metrics.equal_mixture(loss, attacked_loss),
    )


def _of(p: Scores, label: Labels) -> tuple[float, float]:
    """Accuracy and log loss in nats."""
    true = np.take_along_axis(p, np.asarray(label)[:, None], axis=1)[:, 0]
    loss = float(-np.log(np.maximum(true, _TINY)).mean())
    return metrics.accuracy(p.argmax(axis=1), label), loss

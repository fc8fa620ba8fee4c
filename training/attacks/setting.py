"""An attack of a test as people write it, `NORM:EPS:STEP_SIZE:STEPS`, and the usual ones.

Knows the words and numbers and makes the attack of them; it does not run it and picks no way.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import cast, get_args

from training.attacks.pgd import PGD
from training.config import AttackConfig, ConfigError, Norm, parse_eps
from training.threat import ThreatModel

# What the paper and the code that it builds on test with (Table 4a; MNIST from the code, as the
# table's l2 for MNIST cannot be meant): by norm and eps, step size and steps.
_CONVENTIONAL: dict[tuple[Norm, str], tuple[str, int]] = {
    ("linf", "0.3"): ("0.01", 40),
    ("linf", "8/255"): ("2/255", 20),
    ("l2_sign", "0.3"): ("0.1", 20),
}
# Of a model's own eps, for a curve; l_inf 0.3 is nearly the whole way to a grey image already.
_MULTIPLES = tuple(map(Fraction, ("1/8", "1/4", "1/2", "1", "3/2", "2")))
_CURVES: dict[tuple[Norm, str], tuple[str, ...]] = {
    ("linf", "0.3"): ("0.05", "0.1", "0.2", "0.3", "0.35", "0.4"),
}
_STEPS = 20
_REACH = 2.5  # of eps, over all steps: the rule of thumb of Madry et al. for any other ball


@dataclass(frozen=True, kw_only=True)
class AttackSetting:
    """PGD with a random start. Distances are kept as they were written, `0.3` or `8/255`."""

    norm: Norm
    eps: str
    step_size: str
    steps: int

    @property
    def name(self) -> str:
        """The text that `parse` reads."""
        return f"{self.norm}:{self.eps}:{self.step_size}:{self.steps}"

    def pgd(self) -> PGD:
        """The attack itself."""
        return PGD(
            threat=ThreatModel(norm=self.norm, eps=parse_eps(self.eps)),
            steps=self.steps,
            step_size=parse_eps(self.step_size),
        )


def parse(text: str) -> AttackSetting:
    """Read `NORM:EPS:STEP_SIZE:STEPS`, e.g. `linf:8/255:2/255:20`.

    Raises:
        ConfigError: another form, an unknown norm, or a number that is no distance or step count.
    """
    parts = text.split(":")
    if len(parts) != 4:
        raise ConfigError(
            f"{text!r} is not an attack; write NORM:EPS:STEP_SIZE:STEPS as in linf:0.3:0.01:40"
        )
    norm, eps, step_size, steps = parts
    if norm not in get_args(Norm):
        raise ConfigError(f"attack {text!r}: norm {norm!r} is none of {', '.join(get_args(Norm))}")
    for distance in (eps, step_size):
        if parse_eps(distance) == 0:
            raise ConfigError(f"attack {text!r}: {distance!r} is not a distance above 0")
    if not (steps.isascii() and steps.isdigit()):
        raise ConfigError(f"attack {text!r}: {steps!r} is not a number of steps")
    return AttackSetting(norm=cast(Norm, norm), eps=eps, step_size=step_size, steps=int(steps))


def usual(config: AttackConfig) -> AttackSetting:
    """The test attack for a model's own threat model, stronger than the one it was trained with.

    The conventional step size and count where that ball has them, else 20 steps of eps / 8.
    """
    for (norm, eps), (step_size, steps) in _CONVENTIONAL.items():
        if norm == config.norm and math.isclose(parse_eps(eps), parse_eps(config.eps)):
            return AttackSetting(norm=norm, eps=config.eps, step_size=step_size, steps=steps)
    step_size = f"{_REACH * parse_eps(config.eps) / _STEPS:.6g}"
    return AttackSetting(norm=config.norm, eps=config.eps, step_size=step_size, steps=_STEPS)


def curve(config: AttackConfig) -> tuple[str, ...]:
    """Distances below, at and above a model's own, ascending: the eps of a stress test's curve.

    An eighth to twice its eps, so that 8/255 gives 1, 2, 4, 8, 12 and 16/255; for l_inf 0.3, twice
    of which would be any image, 0.05 to 0.4.
    """
    for (norm, eps), distances in _CURVES.items():
        if norm == config.norm and math.isclose(parse_eps(eps), parse_eps(config.eps)):
            return distances
    head, slash, tail = config.eps.partition("/")
    return tuple(f"{float(multiple * Fraction(head)):g}{slash}{tail}" for multiple in _MULTIPLES)

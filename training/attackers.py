"""Whom scores are measured against: one who knows of no detector, and those who know it.

Builds attacks for a model's own threat model; runs none.
"""

from collections.abc import Mapping

from training.attacks import setting
from training.attacks.adaptive import Adaptive
from training.attacks.apgd import APGD
from training.attacks.margin import escape
from training.config import AttackConfig, parse_eps
from training.detector import Network, Unnoticed
from training.specimens import Attack
from training.threat import ThreatModel

PLAIN = "standard way"  # PGD against it, the usual one of `evaluate`
HEAD = "unnoticed by the head"

_TARGETS = 1  # wrong classes that the ways are to agree on


def threat_of(config: AttackConfig) -> ThreatModel:
    """The ball that the model was trained against."""
    return ThreatModel(norm=config.norm, eps=parse_eps(config.eps))


def attackers(config: AttackConfig, steps: int, network: Network | None) -> Mapping[str, Attack]:
    """By name, the plain one first; `steps` gradients each for those who know the detector.

    The one who wants to pass the head is there where there is a head.
    """
    threat = threat_of(config)
    plain = setting.usual(config).pgd()
    apgd = APGD(threat=threat, steps=steps)
    attacks: dict[str, Attack] = {
        PLAIN: lambda model, image, label: plain(lambda x: model.way(x, "standard"), image, label),
        "unflagged error": lambda model, image, label: (
            apgd(lambda x: escape(model(x), label), image).image
        ),
        "unanimous ways": Adaptive(threat=threat, steps=steps, targets=_TARGETS),
    }
    if network is not None:
        attacks[HEAD] = Unnoticed(network=network, threat=threat, steps=steps)
    return attacks

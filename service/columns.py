"""Findings in columns, one value an image: what clients of the inference protocol read.

Pure translation from `Examined` to the outputs of `service.protocol.interface`; decides nothing.
"""

from collections.abc import Sequence

import numpy as np

from service.pipeline import Examined
from service.protocol import interface
from service.protocol.tensors import Column


def columns(examined: Sequence[Examined]) -> dict[str, Column]:
    """Every output of `/v2` for N images."""
    findings = [one.finding for one in examined]
    ways = np.array([finding.probabilities for finding in findings], np.float32)  # (N, 3, K)
    return {
        interface.STANDARD: ways[:, 0],
        interface.ROBUST: ways[:, 1],
        interface.NONROBUST: ways[:, 2],
        interface.ADVERSARIAL: np.array([finding.adversarial for finding in findings]),
        interface.SCORE: np.array([finding.score for finding in findings], np.float32),
        interface.LABEL: np.array([finding.corrected.label for finding in findings], np.int64),
        interface.VERDICT: [one.judgement.verdict for one in examined],
    }

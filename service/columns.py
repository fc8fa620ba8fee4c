"""Findings in columns, one value an image: what clients of the inference protocol read.

Pure translation from `Examined` to the outputs of `service.protocol.interface`; decides nothing.
"""

from collections.abc import Sequence

import numpy as np

from service.pipeline import Examined
from service.policies import to_use
from service.protocol import interface
from service.protocol.tensors import Column

NO_LABEL = -1  # where only verdicts are told, of an image that is rejected


def verdicts(examined: Sequence[Examined]) -> dict[str, Column]:
    """The outputs for N images where only verdicts are told."""
    told = [one.judgement.verdict for one in examined]
    uses = [to_use(one.finding, one.judgement.verdict) for one in examined]
    labels = np.array([NO_LABEL if use is None else use.label for use in uses], np.int64)
    return {interface.LABEL: labels, interface.VERDICT: told}


def columns(examined: Sequence[Examined]) -> dict[str, Column]:
    """Every output for N images."""
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

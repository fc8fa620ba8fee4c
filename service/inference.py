"""A batch of model inputs to findings: run the session, decide. What is asked of it, no more.

Knows models and findings; neither requests nor policies. The batcher runs it for the service, the
calibration on an operator's images, so that thresholds are fitted on the very scores they judge.
"""

import logging

import numpy as np
from numpy.typing import NDArray

from service import manifest as contract
from service.decision import Finding, Measure, decide
from service.errors import InferenceFailed
from service.mixture import Mixture
from service.repository import Model
from service.scores import Features, Logits, Temperature

Pixels = NDArray[np.float32]

log = logging.getLogger(__name__)


def infer(model: Model, batch: list[Pixels]) -> list[Finding | InferenceFailed]:
    """One run of the model over a batch of (C, H, W) images; the batcher's runner.

    An image that is answered with NaN or infinity, from which no verdict may be drawn, fails alone.

    Raises:
        SessionError: the runtime failed.
    """
    needed = contract.LOGITS if model.head is None else contract.OUTPUTS
    outputs = model.session.run(contract.INPUT, np.stack(batch), needed)
    finite = np.logical_and.reduce([np.isfinite(values).all(axis=1) for values in outputs.values()])
    usable = {name: np.where(finite[:, None], outputs[name], 0.0) for name in needed}
    logits = Logits(*(usable[name] for name in contract.LOGITS))
    features = None
    if model.head is not None:
        features = Features(*(usable[name] for name in contract.FEATURES))
    if not finite.all():
        count = len(batch) - int(finite.sum())
        log.error("%s answered %d images with values that are not finite", model.name, count)
    findings = decide(logits, _measure(model), features)
    return [
        finding if whole else InferenceFailed()
        for finding, whole in zip(findings, finite.tolist(), strict=True)
    ]


def _measure(model: Model) -> Measure:
    spec = model.manifest.decision
    temperatures, mixing = spec.temperatures, spec.mixture
    return Measure(
        temperature=Temperature(temperatures.standard, temperatures.robust, temperatures.nonrobust),
        score=spec.score,
        head=model.head,
        mixture=Mixture(mixing.weight, mixing.scale, mixing.power) if mixing else None,
    )

"""A batch of model inputs to findings: run the session, decide. What is asked of it, no more.

Knows models and findings; neither requests nor policies. The batcher runs it for the service, the
calibration on an operator's images, so that thresholds are fitted on the very scores they judge.
"""

import logging

import numpy as np
from numpy.typing import NDArray

from service import manifest as contract
from service.catalogue import Model
from service.decision import Finding, Measure, decide
from service.errors import InferenceFailed
from service.mixture import Mixture
from service.scores import Features, Logits, Temperature

Pixels = NDArray[np.float32]

log = logging.getLogger(__name__)


def infer(model: Model, chunks: list[Pixels]) -> list[Finding | InferenceFailed]:
    """One run of the model over chunks of (n, C, H, W) images; the batcher's runner.

    An image that is answered with NaN or infinity, from which no verdict may be drawn, fails alone.

    Raises:
        SessionError: the runtime failed.
    """
    batch = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    needed = contract.LOGITS if model.head is None else contract.OUTPUTS
    outputs = model.session.run(contract.INPUT, batch, needed)
    finite = np.isfinite(np.concatenate([outputs[name] for name in needed], axis=1)).all(axis=1)
    whole = bool(finite.all())
    if not whole:
        count = len(batch) - int(finite.sum())
        log.error("%s answered %d images with values that are not finite", model.name, count)
        outputs = {name: np.where(finite[:, None], outputs[name], 0.0) for name in needed}
    logits = Logits(*(outputs[name] for name in contract.LOGITS))
    features = None
    if model.head is not None:
        features = Features(*(outputs[name] for name in contract.FEATURES))
    findings = decide(logits, _measure(model), features)
    if whole:
        return [*findings]
    return [
        finding if usable else InferenceFailed()
        for finding, usable in zip(findings, finite.tolist(), strict=True)
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

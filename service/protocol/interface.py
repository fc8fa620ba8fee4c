"""Which tensors every model takes and gives under `/v2`, whatever its network is called inside."""

from service.manifest import InputSpec
from service.protocol.tensors import ANY, TensorSpec

IMAGE = "image"
BYTES = "bytes"

STANDARD = "probabilities_standard"
ROBUST = "probabilities_robust"
NONROBUST = "probabilities_nonrobust"
ADVERSARIAL = "adversarial"
SCORE = "score"
LABEL = "label"
VERDICT = "verdict"


def inputs(spec: InputSpec) -> tuple[TensorSpec, ...]:
    """Either of them is one request's only input: pixels, or encoded files."""
    return TensorSpec(IMAGE, "FP32", (ANY, *spec.shape)), TensorSpec(BYTES, "BYTES", (ANY,))


def outputs(classes: int, *, scores: bool = True) -> tuple[TensorSpec, ...]:
    """The ways' probabilities; Eq. 12; the score; the corrected label; the policy's verdict.

    Without scores the last two alone.
    """
    told = TensorSpec(LABEL, "INT64", (ANY,)), TensorSpec(VERDICT, "BYTES", (ANY,))
    if not scores:
        return told
    return (
        *(TensorSpec(name, "FP32", (ANY, classes)) for name in (STANDARD, ROBUST, NONROBUST)),
        TensorSpec(ADVERSARIAL, "BOOL", (ANY,)),
        TensorSpec(SCORE, "FP32", (ANY,)),
        *told,
    )

"""What the command line prints for people: models, judged files, a calibration. Words only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from service.catalogue import Model
from service.manifest import DecisionSpec
from service.schemas import Detection, LabelProbability, Refusal

_COLUMNS = ("image", "verdict", "label", "p", "score", "standard", "robust", "non-robust")


def described(model: Model) -> str:
    """One line."""
    shape = "x".join(str(size) for size in model.manifest.input.shape)
    threat = model.manifest.threat_model
    return (
        f"{model.name} version {model.version}: {len(model.manifest.labels)} classes, "
        f"{shape} (CxHxW), {threat.norm} {threat.eps}, {model.manifest.precision}, "
        f"{model.session.provider}, threads {model.session.threads}"
    )


def calibrated(folder: Path, spec: DecisionSpec) -> Iterator[str]:
    """What a new version holds, for whoever has to trust it."""
    assert spec.calibration is not None
    yield f"{folder}: thresholds of {spec.score} from {spec.calibration.n_images} images"
    yield "  rate   threshold  realised on images like these, with 95 % confidence"
    for rate, threshold in spec.thresholds.items():
        low, high = threshold.interval
        by_class = " (by class)" if threshold.per_class else ""
        yield f"  {rate:5}  {threshold.value:<9.6f}  {low:.2%} to {high:.2%}{by_class}"
    for note in spec.calibration.notes:
        yield f"  {note}"
    yield f"  default: policy {spec.policy}, rate {spec.fpr}"


def table(files: Sequence[Path], answers: Sequence[Detection | Refusal]) -> Iterator[str]:
    """Aligned columns; a refused image says why instead of its numbers."""
    width = max(len(_COLUMNS[0]), *(len(str(file)) for file in files))
    line = f"{{:{width}}}  {{:9}}  {{:10}}  {{:5}}  {{:5}}  {{:16}}  {{:16}}  {{}}"
    yield line.format(*_COLUMNS)
    for file, answer in zip(files, answers, strict=True):
        if isinstance(answer, Refusal):
            yield f"{file!s:{width}}  refused    {answer.error.code}: {answer.error.detail}"
            continue
        ways = answer.ways
        yield line.format(
            str(file),
            answer.verdict,
            answer.calibrated.class_name,
            f"{answer.calibrated.probability:.3f}",
            f"{answer.score:.3f}",
            *(_seen(way) for way in (ways.standard, ways.robust, ways.nonrobust)),
        )


def _seen(way: LabelProbability) -> str:
    return f"{way.class_name} {way.probability:.3f}"

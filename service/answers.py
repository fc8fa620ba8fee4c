"""Findings in the words of the wire: what HTTP clients and the command line read.

Pure translation from `Examined` to `service.schemas`; decides nothing.
"""

from typing import Any

from service.catalogue import Catalogue, Model
from service.decision import Guess, top_k
from service.pipeline import Examined
from service.policies import to_use
from service.schemas import (
    Classification,
    Detection,
    Label,
    LabelProbability,
    ListedModels,
    LoadedModel,
    LoadedModels,
    ModelFacts,
    ModelName,
    RefusedModel,
    Timings,
    Verdict,
    Ways,
)


def classification(examined: Examined, model: Model, k: int) -> Classification:
    """The answer of `/classify` for one image."""
    finding = examined.finding
    return Classification(
        **_judged(examined, model),
        **_named(finding.standard, model).model_dump(),
        top_k=[_named(guess, model) for guess in top_k(finding.probabilities[0], k)],
    )


def detection(examined: Examined, model: Model) -> Detection:
    """The answer of `/detect` for one image."""
    finding = examined.finding
    return Detection(
        **_judged(examined, model),
        adversarial=finding.adversarial,
        ways=Ways(
            standard=_named(finding.standard, model),
            robust=_named(finding.robust, model),
            nonrobust=_named(finding.nonrobust, model),
        ),
        timings_ms=Timings(
            decode=_ms(examined.decode_s),
            queue=_ms(examined.queue_s),
            inference=_ms(examined.run_s),
        ),
    )


def verdict(examined: Examined, model: Model) -> Verdict:
    """The answer for one image, whatever the endpoint, where only verdicts are told."""
    judgement = examined.judgement
    use = to_use(examined.finding, judgement.verdict)
    return Verdict(
        model=model_name(model),
        policy=judgement.rule.policy,
        verdict=judgement.verdict,
        use=Label(label=use.label, class_name=model.manifest.labels[use.label]) if use else None,
        resized=examined.resized,
    )


def loaded_models(catalogue: Catalogue) -> LoadedModels:
    """The answer of `/models`."""
    models = [
        LoadedModel(**_facts(model, catalogue), decision=model.manifest.decision)
        for model in catalogue
    ]
    return LoadedModels(models=models, refused=_refused(catalogue))


def listed_models(catalogue: Catalogue) -> ListedModels:
    """The same, where only verdicts are told."""
    models = [ModelFacts(**_facts(model, catalogue)) for model in catalogue]
    return ListedModels(models=models, refused=_refused(catalogue))


def _refused(catalogue: Catalogue) -> list[RefusedModel]:
    return [
        RefusedModel(name=entry.name, version=entry.version, reason=entry.reason)
        for entry in catalogue.left_out
    ]


def _facts(model: Model, catalogue: Catalogue) -> dict[str, Any]:
    """The fields of `ModelFacts`."""
    manifest, session = model.manifest, model.session
    return {
        "name": model.name,
        "version": model.version,
        "default": model is catalogue.default,
        "active": catalogue.is_active(model),
        "provider": session.provider,
        "threads": session.threads,
        "created": manifest.created.isoformat(),
        "description": manifest.description,
        "precision": manifest.precision,
        "input": manifest.input,
        "labels": manifest.labels,
        "threat_model": manifest.threat_model,
        "evaluation": manifest.evaluation,
    }


def model_name(model: Model) -> ModelName:
    """Name and version, as every answer begins."""
    return ModelName(name=model.name, version=model.version)


def _judged(examined: Examined, model: Model) -> dict[str, Any]:
    """The fields of `Judged`."""
    finding, judgement = examined.finding, examined.judgement
    is_corrected = judgement.verdict == "corrected"
    return {
        "model": model_name(model),
        "policy": judgement.rule.policy,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "score": finding.score,
        "threshold": judgement.threshold,
        "fpr": judgement.rule.fpr,
        "corrected": _named(finding.robust, model) if is_corrected else None,
        "calibrated": _named(finding.mixed or finding.corrected, model),
        "calibrated_by": "mixture" if finding.mixed else "switch",
        "resized": examined.resized,
    }


def _named(guess: Guess, model: Model) -> LabelProbability:
    return LabelProbability(
        label=guess.label,
        class_name=model.manifest.labels[guess.label],
        probability=guess.probability,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)

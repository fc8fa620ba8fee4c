"""What travels over the wire: query parameters in, answers out. Fields only, no behaviour.

Clients rely on these names; fields may join them, none may leave. Knows nothing of how the values
come about.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.manifest import DecisionSpec, Evaluation, InputSpec, Policy, Precision, ThreatModel

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]


class ImageQuery(BaseModel):
    """Parameters that say nothing of how it is judged, all there are where only verdicts are told:
    who may choose among rates finds out the score. An unknown one is refused, so that a typo
    cannot loosen a check.
    """

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        None, max_length=255, description="model name; the default model where absent"
    )
    version: int | None = Field(None, ge=1, description="model version; the newest where absent")
    strict_size: bool = Field(
        False, description="refuse an image of another size than the model's, instead of resizing"
    )


class DetectQuery(ImageQuery):
    """Parameters of `/detect`."""

    policy: Policy | None = Field(
        None, description="how the verdict is reached; the model's own policy where absent"
    )
    fpr: float | None = Field(
        None, gt=0, lt=1, description="target rate of false alarms; the model's own where absent"
    )


class ClassifyQuery(DetectQuery):
    """Parameters of `/classify`."""

    top_k: int = Field(5, ge=1, le=1000, description="likeliest classes to list")


class ModelName(BaseModel):
    """Who answered."""

    name: str
    version: int


class Label(BaseModel):
    """A class."""

    label: int
    class_name: str


class LabelProbability(Label):
    """A class and how likely it is."""

    probability: Probability


class Judged(BaseModel):
    """What every answer about an image says: the verdict, and what it comes from."""

    model: ModelName
    policy: Policy
    verdict: Literal["accept", "reject", "corrected"]
    reason: Literal["disagreement", "score", "margin"] | None = Field(
        None, description="ways that differ, or a score above its threshold; absent where accepted"
    )
    score: Probability = Field(description="higher is more likely adversarial")
    threshold: Probability = Field(
        description="of the score; policy eq12 does not look at it, the others flag what is above"
    )
    fpr: Probability | None = Field(
        None, description="target rate of false alarms on natural images; absent for policy eq12"
    )
    corrected: LabelProbability | None = Field(
        None, description="the robust way's label, where the verdict is corrected; absent elsewhere"
    )
    calibrated: LabelProbability = Field(
        description="the label to use whatever the policy, with a probability that means something"
    )
    calibrated_by: Literal["mixture", "switch"] = Field(
        description="mixture: standard and robust way mixed, as the model was calibrated; "
        "switch: the robust way's label where the ways differ (Eq. 12), else the standard way's"
    )
    resized: bool = Field(description="the image had another size; that can wash an attack out")


class Classification(Judged):
    """`/classify`: the standard way's label and its likeliest classes, and the verdict beside."""

    label: int
    class_name: str
    probability: Probability
    top_k: list[LabelProbability]


class Ways(BaseModel):
    """What each way sees."""

    standard: LabelProbability
    robust: LabelProbability
    nonrobust: LabelProbability


class Timings(BaseModel):
    """Where the time went."""

    decode: Milliseconds
    queue: Milliseconds
    inference: Milliseconds


class Detection(Judged):
    """`/detect`: whether to distrust the image, and why."""

    adversarial: bool = Field(
        description="the robust and the non-robust way disagree (Eq. 12), whatever the policy"
    )
    ways: Ways
    timings_ms: Timings


class Verdict(BaseModel):
    """All that is told of an image where only verdicts are: nothing that can be climbed.

    No number, no reason and no other way's label: each would say how near a probe came.
    """

    model: ModelName
    policy: Policy
    verdict: Literal["accept", "reject", "corrected"]
    use: Label | None = Field(
        None, description="the label to use; absent where the image is rejected"
    )
    resized: bool = Field(description="the image had another size; that can wash an attack out")


class Problem(BaseModel):
    """RFC 9457; `code` is stable, `detail` is for people."""

    type: str
    code: str
    title: str
    status: int
    detail: str
    instance: str | None = None


class Refusal(BaseModel):
    """The place of an image that could not be judged, among others that could."""

    error: Problem


class Classifications(BaseModel):
    """Several images, in their order."""

    results: list[Classification | Refusal]


class Detections(BaseModel):
    """Several images, in their order."""

    results: list[Detection | Refusal]


class Verdicts(BaseModel):
    """Several images, in their order."""

    results: list[Verdict | Refusal]


class ModelFacts(BaseModel):
    """A verified model that answers requests, without what it decides by."""

    name: str
    version: int
    default: bool
    active: bool  # answers where its name is said and no version
    provider: str
    threads: int
    created: str
    description: str
    precision: Precision
    input: InputSpec
    labels: tuple[str, ...]
    threat_model: ThreatModel
    evaluation: Evaluation


class LoadedModel(ModelFacts):
    """The same with rule, thresholds, temperatures and where they come from."""

    decision: DecisionSpec


class RefusedModel(BaseModel):
    """A version that is not served as it lies there; None where all of a name is meant."""

    name: str
    version: int | None
    reason: str


class LoadedModels(BaseModel):
    """`/models`; `refused` is what the latest reload found and did not take."""

    models: list[LoadedModel]
    refused: list[RefusedModel]


class ListedModels(BaseModel):
    """`/models` where only verdicts are told."""

    models: list[ModelFacts]
    refused: list[RefusedModel]


class Live(BaseModel):
    """`/health/live`: the process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """`/health/ready`: models are loaded and warm."""

    status: Literal["ready"] = "ready"
    models: list[ModelName]


class ProblemKind(BaseModel):
    """`/problems/{code}`: where a problem's `type` leads."""

    code: str
    title: str
    status: int
    meaning: str

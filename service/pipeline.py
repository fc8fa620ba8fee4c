"""One request through the service: decode > batch > run > decide > judge > record.

Knows uploads and findings; knows neither HTTP nor how an answer is written down. What each request
needs of a model is its `Lane`: the model, its batcher, its monitors. Images of requests with other
policies share a run: a policy judges what was found.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from service import manifest as contract
from service.alerts import RateMonitor
from service.batcher import MicroBatcher, Served
from service.decision import Finding
from service.drift import DriftMonitor
from service.errors import (
    DeadlineExceeded,
    ImageRefused,
    InferenceFailed,
    RequestError,
    SettingsRefused,
)
from service.images import Limits, ModelInput, Upload, is_light, prepare
from service.inference import Pixels, infer
from service.metrics import Metrics, bounded
from service.policies import Judgement, Rule, Wish, check, judge, resolve
from service.repository import Catalogue, Model
from service.session import usable_cpus
from service.settings import Settings

NO_RATE = "none"  # metric label of a policy without a target

_FEW = 4  # small images that are decoded in the event loop; more would hold it up


@dataclass(frozen=True, slots=True)
class Examined:
    """A finding and its judgement, and what happened to the image on the way. Times in seconds.

    `queue_s` is all waiting: for a thread that decodes and for the batch.
    """

    finding: Finding
    judgement: Judgement
    resized: bool
    decode_s: float
    queue_s: float
    run_s: float


Entry = Examined | ImageRefused | InferenceFailed  # of one image; the others are not affected


@dataclass(frozen=True, slots=True)
class Lane:
    """A model with its own queue, and what is watched of it."""

    model: Model
    batcher: MicroBatcher[Pixels, Finding]
    monitor: RateMonitor  # of Eq. 12
    drift: DriftMonitor | None  # where the model was calibrated
    alarms: dict[tuple[str, str], RateMonitor] = field(default_factory=dict)  # by policy, rate


@dataclass(frozen=True, slots=True)
class _Decoded:
    input: ModelInput
    waited_s: float
    decode_s: float


class Pipeline:
    """All lanes and the threads that decode for them. `start` and `close` in one event loop."""

    def __init__(self, catalogue: Catalogue, settings: Settings, metrics: Metrics) -> None:
        """
        Raises:
            SettingsRefused: a model that answers where no version is named cannot follow the policy
                or the rate of the settings. Another version may: who asks for it is refused then.
        """
        self.catalogue = catalogue
        self._default = Wish(settings.policy, settings.fpr)
        self._alert_window_s = settings.alert_window_s
        self._metrics = metrics
        self._deadline_s = settings.deadline_ms / 1000
        self._metric_classes = settings.metric_classes
        self._limits = Limits(settings.max_image_bytes, settings.max_pixels)
        self._decoders = ThreadPoolExecutor(settings.decode_threads or usable_cpus(), "decoder")
        self._lanes = {
            (model.name, model.version): self._lane(model, settings) for model in catalogue
        }

    def _lane(self, model: Model, settings: Settings) -> Lane:
        label = (model.name, str(model.version))
        spec = model.manifest.decision
        try:
            if model is self.catalogue.find(model.name):
                check(spec, self._default)
        except RequestError as error:
            raise SettingsRefused(
                f"{model.name} version {model.version} cannot follow the settings: {error}",
                "change PARALLAX_POLICY or PARALLAX_FPR, or give it thresholds: parallax calibrate",
            ) from None
        drift = None
        if spec.calibration is not None:
            reference = spec.calibration.histogram
            drift = DriftMonitor(reference.edges, reference.counts, settings.drift_window)
            self._metrics.score_stability.labels(*label).set_function(drift.stability_index)
            self._metrics.score_distance.labels(*label).set_function(drift.ks_distance)
        for rate, threshold in spec.thresholds.items():
            low, high = threshold.interval
            for bound, value in (("low", low), ("target", float(rate)), ("high", high)):
                self._metrics.promised_rate.labels(*label, rate, bound).set(value)
        lane = Lane(
            model,
            MicroBatcher(
                partial(infer, model),
                max_batch=settings.max_batch,
                max_pending=settings.max_pending,
                max_delay_s=settings.max_delay_ms / 1000,
                on_batch=self._metrics.batch_size.labels(*label).observe,
            ),
            RateMonitor(settings.alert_window_s),
            drift,
        )
        session = model.session
        is_default = str(model is self.catalogue.default).lower()
        digest = model.manifest.files[contract.MODEL_FILE].sha256
        self._metrics.model_info.labels(
            *label, session.provider, session.threads, is_default, digest
        ).set(1)
        self._metrics.pending.labels(*label).set_function(lambda: lane.batcher.pending)
        self._metrics.adversarial_rate.labels(*label).set_function(lane.monitor.rate)
        return lane

    async def start(self) -> None:
        """Begin to answer."""
        for lane in self._lanes.values():
            lane.batcher.start()

    async def close(self) -> None:
        """Answer what was submitted, nothing after it; an image that is being decoded is left."""
        for lane in self._lanes.values():
            await lane.batcher.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether an image that is sent now will be judged."""
        return all(lane.batcher.running for lane in self._lanes.values())

    def lane(self, name: str | None, version: int | None) -> Lane:
        """The lane of a loaded model, the default's where nothing is said.

        Raises:
            ModelUnknown: nothing like it is loaded.
        """
        model = self.catalogue.find(name, version)
        return self._lanes[model.name, model.version]

    def rule(self, lane: Lane, asked: Wish) -> Rule:
        """How a request's images are judged: as it asks, else as the settings, else the model say.

        Raises:
            PolicyUnavailable, ParameterRefused: the model cannot be asked for this.
        """
        return resolve(lane.model.manifest.decision, asked, self._default)

    async def examine(
        self,
        uploads: Sequence[Upload],
        lane: Lane,
        rule: Rule,
        *,
        strict_size: bool = False,
        deadline: float | None = None,
    ) -> list[Entry]:
        """One entry an upload, in order: what was found, or why this image alone was not judged.

        `deadline` is a time of the event loop's clock; the settings' where None.

        Raises:
            Overloaded, ShuttingDown, DeadlineExceeded: for the request as a whole.
        """
        now = asyncio.get_running_loop().time()
        deadline = now + self._deadline_s if deadline is None else deadline
        with lane.batcher.admit(len(uploads), time_left_s=deadline - now):
            decoded = await self._decode(uploads, lane, strict_size, deadline)
            inputs = [entry.input.pixels for entry in decoded if isinstance(entry, _Decoded)]
            served = []
            if inputs:
                chunk = inputs[0][None] if len(inputs) == 1 else np.stack(inputs)
                served = await lane.batcher.submit(chunk, deadline=deadline)
        entries = _join(decoded, served, rule)
        for entry in entries:
            self._record(entry, lane)
        return entries

    async def examine_tensor(
        self, images: Pixels, lane: Lane, rule: Rule, *, deadline: float | None = None
    ) -> list[Entry]:
        """The same for (N, C, H, W) that the client decoded, of the model's size, in [0, 1].

        Raises:
            Overloaded, ShuttingDown, DeadlineExceeded: for the request as a whole.
        """
        now = asyncio.get_running_loop().time()
        deadline = now + self._deadline_s if deadline is None else deadline
        with lane.batcher.admit(len(images), time_left_s=deadline - now):
            served = await lane.batcher.submit(images, deadline=deadline)
        entries: list[Entry] = [
            _examined(value, piece, rule) for piece in served for value in piece.values
        ]
        for entry in entries:
            self._record(entry, lane)
        return entries

    async def _decode(
        self, uploads: Sequence[Upload], lane: Lane, strict_size: bool, deadline: float
    ) -> list[_Decoded | ImageRefused]:
        """In threads, but for a few small images: those are decoded sooner than a thread wakes.

        Raises:
            DeadlineExceeded: it passed.
        """
        spec, limits = lane.model.manifest.input, self._limits
        asked = time.perf_counter()

        def decode(upload: Upload) -> _Decoded | ImageRefused:
            began = time.perf_counter()
            try:
                prepared = prepare(upload, spec, limits, strict_size=strict_size)
            except ImageRefused as error:
                return error
            return _Decoded(prepared, began - asked, time.perf_counter() - began)

        if len(uploads) <= _FEW and all(map(is_light, uploads)):
            return [decode(upload) for upload in uploads]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.gather(
                    *(loop.run_in_executor(self._decoders, decode, upload) for upload in uploads)
                )
        except TimeoutError:
            raise DeadlineExceeded from None

    def _record(self, entry: Entry, lane: Lane) -> None:
        metrics, model = self._metrics, lane.model
        if not isinstance(entry, Examined):
            metrics.rejected.labels(entry.code).inc()
            return
        label = (model.name, str(model.version))
        finding, judgement = entry.finding, entry.judgement
        metrics.stage.labels("decode").observe(entry.decode_s)
        metrics.stage.labels("queue").observe(entry.queue_s)
        metrics.stage.labels("inference").observe(entry.run_s)
        metrics.images.labels(*label, judgement.verdict).inc()
        metrics.score.labels(*label).observe(finding.score)
        lane.monitor.add(flagged=finding.adversarial)
        self._alarms(lane, judgement.rule).add(flagged=judgement.verdict != "accept")
        if lane.drift is not None:
            lane.drift.add(finding.score)
        if finding.adversarial:
            saw = (
                bounded(guess.label, model.manifest.labels, self._metric_classes)
                for guess in (finding.robust, finding.nonrobust)
            )
            metrics.detections.labels(*label, *saw).inc()

    def _alarms(self, lane: Lane, rule: Rule) -> RateMonitor:
        """The monitor of a policy at a rate; there are as many as a manifest has thresholds."""
        key = (rule.policy, NO_RATE if rule.fpr is None else str(rule.fpr))
        if key not in lane.alarms:
            lane.alarms[key] = RateMonitor(self._alert_window_s)
            label = (lane.model.name, str(lane.model.version), *key)
            self._metrics.alarm_rate.labels(*label).set_function(lane.alarms[key].rate)
        return lane.alarms[key]


def _join(
    decoded: Sequence[_Decoded | ImageRefused], served: Iterable[Served[Finding]], rule: Rule
) -> list[Entry]:
    """Results back into the places of the images that were decoded."""
    results = ((value, piece) for piece in served for value in piece.values)
    return [
        _examined(*next(results), rule, entry) if isinstance(entry, _Decoded) else entry
        for entry in decoded
    ]


def _examined(
    value: Finding | InferenceFailed,
    piece: Served[Finding],
    rule: Rule,
    decoded: _Decoded | None = None,
) -> Examined | InferenceFailed:
    if isinstance(value, InferenceFailed):
        return value
    return Examined(
        finding=value,
        judgement=judge(value, rule),
        resized=decoded is not None and decoded.input.resized,
        decode_s=decoded.decode_s if decoded else 0.0,
        queue_s=piece.queue_s + (decoded.waited_s if decoded else 0.0),
        run_s=piece.run_s,
    )

"""One request through the service: decode > batch > run > decide > judge > record.

Knows uploads and findings; knows neither HTTP nor how an answer is written down. What each request
needs of a model is its `Lane`. Images of requests with other policies share a run: a policy judges
what was found.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.alerts import RateMonitor
from service.batcher import Served
from service.decision import Finding
from service.errors import (
    DeadlineExceeded,
    ImageRefused,
    InferenceFailed,
)
from service.images import Limits, ModelInput, Upload, prepare
from service.lanes import Lane, Lanes
from service.metrics import Metrics, bounded
from service.policies import Judgement, Rule, Wish, judge, resolve
from service.repository import Catalogue
from service.session import usable_cpus
from service.settings import Settings

NO_RATE = "none"  # metric label of a policy without a target


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
        self._lanes = Lanes(catalogue, settings, metrics)
        self._default = Wish(settings.policy, settings.fpr)
        self._alert_window_s = settings.alert_window_s
        self._metrics = metrics
        self._deadline_s = settings.deadline_ms / 1000
        self._metric_classes = settings.metric_classes
        self._limits = Limits(settings.max_image_bytes, settings.max_pixels)
        self._decoders = ThreadPoolExecutor(settings.decode_threads or usable_cpus(), "decoder")

    @property
    def catalogue(self) -> Catalogue:
        """The models that are served now."""
        return self._lanes.catalogue

    async def start(self) -> None:
        """Begin to answer."""
        self._lanes.start()

    async def close(self) -> None:
        """Answer what was submitted, nothing after it; an image that is being decoded is left."""
        await self._lanes.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether an image that is sent now will be judged."""
        return self._lanes.ready

    def lane(self, name: str | None, version: int | None) -> Lane:
        """The lane of a loaded model, the default's where nothing is said.

        Raises:
            ModelUnknown: nothing like it is loaded.
        """
        return self._lanes.find(name, version)

    def rule(self, lane: Lane, asked: Wish) -> Rule:
        """How a request's images are judged: as it asks, else as the settings, else the model say.

        Raises:
            PolicyUnavailable, ParameterRefused: the model cannot be asked for this.
        """
        return resolve(lane.model.manifest.decision, asked, self._default)

    async def examine(
        self, uploads: Sequence[Upload], lane: Lane, rule: Rule, *, strict_size: bool = False
    ) -> list[Entry]:
        """One entry an upload, in order: what was found, or why this image alone was not judged.

        Raises:
            Overloaded, ShuttingDown, DeadlineExceeded: for the request as a whole.
        """
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        with lane.batcher.admit(len(uploads)):
            try:
                async with asyncio.timeout_at(deadline):
                    decoded = await self._decode(uploads, lane, strict_size)
            except TimeoutError:
                raise DeadlineExceeded from None
            inputs = [entry.input.pixels for entry in decoded if isinstance(entry, _Decoded)]
            served = await lane.batcher.submit(inputs, deadline=deadline)
        entries = _join(decoded, served, rule)
        for entry in entries:
            self._record(entry, lane)
        return entries

    async def _decode(
        self, uploads: Sequence[Upload], lane: Lane, strict_size: bool
    ) -> list[_Decoded | ImageRefused]:
        loop = asyncio.get_running_loop()
        spec, limits = lane.model.manifest.input, self._limits
        asked = time.perf_counter()

        def decode(upload: Upload) -> _Decoded | ImageRefused:
            began = time.perf_counter()
            try:
                prepared = prepare(upload, spec, limits, strict_size=strict_size)
            except ImageRefused as error:
                return error
            return _Decoded(prepared, began - asked, time.perf_counter() - began)

        return await asyncio.gather(
            *(loop.run_in_executor(self._decoders, decode, upload) for upload in uploads)
        )

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
    decoded: Sequence[_Decoded | ImageRefused],
    served: Sequence[Served[Finding] | InferenceFailed],
    rule: Rule,
) -> list[Entry]:
    """Results back into the places of the images that were decoded."""
    results = iter(served)
    return [
        _examined(entry, next(results), rule) if isinstance(entry, _Decoded) else entry
        for entry in decoded
    ]


def _examined(
    decoded: _Decoded, served: Served[Finding] | InferenceFailed, rule: Rule
) -> Examined | InferenceFailed:
    if isinstance(served, InferenceFailed):
        return served
    return Examined(
        finding=served.value,
        judgement=judge(served.value, rule),
        resized=decoded.input.resized,
        decode_s=decoded.decode_s,
        queue_s=decoded.waited_s + served.queue_s,
        run_s=served.run_s,
    )

"""What is watched of one model: every image that it judged goes into metrics, rates and drift.

Called for every image, so what a metric needs to be found is looked up once. Knows findings and
judgements; neither requests nor how the numbers are collected.
"""

from service.alerts import RateMonitor
from service.catalogue import Model
from service.decision import Finding
from service.drift import DriftMonitor
from service.errors import RequestError
from service.metrics import Metrics, bounded
from service.policies import Judgement, Rule
from service.settings import Settings

NO_RATE = "none"  # metric label of a policy without a target


class Recorder:
    """Metrics of one model. Called in the event loop only."""

    def __init__(self, model: Model, settings: Settings, metrics: Metrics) -> None:
        self._model = model
        self._label = (model.name, str(model.version))
        self._metrics = metrics
        self._alert_window_s = settings.alert_window_s
        self._classes = settings.metric_classes
        self._monitor = RateMonitor(settings.alert_window_s)  # of Eq. 12
        self._alarms: dict[tuple[str, str], RateMonitor] = {}  # by policy and rate
        self._drift: DriftMonitor | None = None  # where the model was calibrated

        spec = model.manifest.decision
        if spec.calibration is not None:
            reference = spec.calibration.histogram
            self._drift = DriftMonitor(reference.edges, reference.counts, settings.drift_window)
            metrics.score_stability.labels(*self._label).set_function(self._drift.stability_index)
            metrics.score_distance.labels(*self._label).set_function(self._drift.ks_distance)
        for rate, threshold in spec.thresholds.items():
            low, high = threshold.interval
            for bound, value in (("low", low), ("target", float(rate)), ("high", high)):
                metrics.promised_rate.labels(*self._label, rate, bound).set(value)
        metrics.adversarial_rate.labels(*self._label).set_function(self._monitor.rate)

        self._decode = metrics.stage.labels("decode")
        self._queue = metrics.stage.labels("queue")
        self._inference = metrics.stage.labels("inference")
        self._score = metrics.score.labels(*self._label)
        self._images = {
            verdict: metrics.images.labels(*self._label, verdict)
            for verdict in ("accept", "reject", "corrected")
        }

    def timed(self, decode_s: float, queue_s: float, run_s: float) -> None:
        """Where an image's time went; `decode_s` is 0 where the client decoded it."""
        if decode_s:
            self._decode.observe(decode_s)
        self._queue.observe(queue_s)
        self._inference.observe(run_s)

    def judged(self, finding: Finding, judgement: Judgement) -> None:
        """An image, as it was answered."""
        self._images[judgement.verdict].inc()
        self._score.observe(finding.score)
        self._monitor.add(flagged=finding.adversarial)
        self._alarms_of(judgement.rule).add(flagged=judgement.verdict != "accept")
        if self._drift is not None:
            self._drift.add(finding.score)
        if finding.adversarial:
            saw = (
                bounded(guess.label, self._model.manifest.labels, self._classes)
                for guess in (finding.robust, finding.nonrobust)
            )
            self._metrics.detections.labels(*self._label, *saw).inc()

    def refused(self, error: RequestError) -> None:
        """An image that could not be judged."""
        self._metrics.rejected.labels(error.code).inc()

    def _alarms_of(self, rule: Rule) -> RateMonitor:
        """The monitor of a policy at a rate; there are as many as a manifest has thresholds."""
        key = (rule.policy, NO_RATE if rule.fpr is None else str(rule.fpr))
        if key not in self._alarms:
            self._alarms[key] = RateMonitor(self._alert_window_s)
            gauge = self._metrics.alarm_rate.labels(*self._label, *key)
            gauge.set_function(self._alarms[key].rate)
        return self._alarms[key]

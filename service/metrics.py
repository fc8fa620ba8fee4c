"""Every metric of the service, declared here and nowhere else, on a registry of the caller's.

Label sets are bounded: endpoints and outcomes by the code, models by what is loaded, class names by
`metric_classes`. Knows numbers only; who observes them decides what they mean.
"""

from collections.abc import Iterator, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

OTHER = "other"

_MODEL = ("model", "version")
_TELLING = frozenset(
    {
        "parallax_score",
        "parallax_detections",
        "parallax_adversarial_rate",
        "parallax_score_stability_index",
        "parallax_score_ks_distance",
    }
)
_SCORES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
_SECONDS = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One instance an app, with a fresh registry each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "parallax_requests_total",
            "Requests by route and outcome (ok, or the code of the problem)",
            ("endpoint", "outcome"),
            registry=registry,
        )
        self.rejected = Counter(
            "parallax_rejected_total",
            "Images and requests refused, by the code of the problem",
            ("reason",),
            registry=registry,
        )
        self.key_images = Counter(
            "parallax_key_images_total",
            "Images let in, by the name of the API key",
            ("key",),
            registry=registry,
        )
        self.images = Counter(
            "parallax_images_total",
            "Images judged, by verdict",
            (*_MODEL, "verdict"),
            registry=registry,
        )
        self.detections = Counter(
            "parallax_detections_total",
            "Images flagged as adversarial, by what the robust and the non-robust way saw",
            (*_MODEL, "robust_label", "nonrobust_label"),
            registry=registry,
        )
        self.score = Histogram(
            "parallax_score",
            "Adversarial score, higher is more likely adversarial",
            _MODEL,
            buckets=_SCORES,
            registry=registry,
        )
        self.stage = Histogram(
            "parallax_stage_seconds",
            "Time an image spends in a stage",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "parallax_batch_size",
            "Images in one run of the model",
            _MODEL,
            buckets=_SIZES,
            registry=registry,
        )
        self.pending = Gauge(
            "parallax_pending_images",
            "Images admitted and not yet answered",
            _MODEL,
            registry=registry,
        )
        self.adversarial_rate = Gauge(
            "parallax_adversarial_rate",
            "Share of flagged images in the alert window; 0 where there were none",
            _MODEL,
            registry=registry,
        )
        self.alarm_rate = Gauge(
            "parallax_alarm_rate",
            "Share of images not accepted in the alert window, by policy and target rate",
            (*_MODEL, "policy", "fpr"),
            registry=registry,
        )
        self.promised_rate = Gauge(
            "parallax_promised_alarm_rate",
            "Share of natural images that the score flags: target, and ends of its 95 % interval",
            (*_MODEL, "fpr", "bound"),
            registry=registry,
        )
        self.score_stability = Gauge(
            "parallax_score_stability_index",
            "Population stability index of the latest scores against the calibration's",
            _MODEL,
            registry=registry,
        )
        self.score_distance = Gauge(
            "parallax_score_ks_distance",
            "Kolmogorov-Smirnov distance of the latest scores from the calibration's",
            _MODEL,
            registry=registry,
        )
        self.reloads = Counter(
            "parallax_reloads_total",
            "Looks for changed models by outcome: switched, unchanged, or refused in part or whole",
            ("outcome",),
            registry=registry,
        )
        self.log_dropped = Counter(
            "parallax_log_dropped_total",
            "Log lines that were lost: the stream was full, closed or too slow",
            registry=registry,
        )
        self.model_info = Gauge(
            "parallax_model_info",
            "1 for each loaded model, with what it runs on",
            (*_MODEL, "provider", "threads", "default", "sha256"),
            registry=registry,
        )

    def forget(self, model: str, version: int) -> None:
        """Remove all that is said of a model that is served no more."""
        labels = {"model": model, "version": str(version)}
        for metric in (
            *(self.images, self.detections, self.score, self.batch_size, self.pending),
            *(self.adversarial_rate, self.alarm_rate, self.promised_rate),
            *(self.score_stability, self.score_distance),
        ):
            metric.remove_by_labels(labels)

    def exposition(self, *, with_scores: bool = True) -> bytes:
        """Prometheus text format. Two readings around a probe tell its score; so it may be told
        without what comes from scores and from the ways' labels.
        """
        return generate_latest(self.registry if with_scores else _WithoutScores(self.registry))


class _WithoutScores(Collector):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            if family.name not in _TELLING:
                yield family


def bounded(label: int, names: Sequence[str], classes: int) -> str:
    """Class name for a metric label; OTHER from the index `classes` on."""
    return names[label] if label < classes else OTHER

"""Every metric of the service, declared here and nowhere else, on a registry of the caller's.

Label sets are bounded: endpoints and outcomes by the code, models by what is loaded, class names by
`metric_classes`. Where several processes serve, each shows the metrics of all. Knows numbers only;
who observes them decides what they mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

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

from service.drift import ks_distance, of_parts, stability_index
from service.gauges import Parts, SumGauge
from service.metric_files import MetricFiles

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
    """One instance an app, with a fresh registry each.

    `files` are those of all processes where there are several; this one must have adopted them.
    """

    def __init__(self, registry: CollectorRegistry, files: MetricFiles | None = None) -> None:
        self.registry = registry
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
        self.pending = SumGauge(
            "parallax_pending_images",
            "Images admitted and not yet answered",
            _MODEL,
            _sum,
            registry=registry,
        )
        self.adversarial_rate = SumGauge(
            "parallax_adversarial_rate",
            "Share of flagged images in the alert window; 0 where there were none",
            _MODEL,
            _share,
            registry=registry,
        )
        self.alarm_rate = SumGauge(
            "parallax_alarm_rate",
            "Share of images not accepted in the alert window, by policy and target rate",
            (*_MODEL, "policy", "fpr"),
            _share,
            registry=registry,
        )
        self.promised_rate = Gauge(
            "parallax_promised_alarm_rate",
            "Share of natural images that the score flags: target, and ends of its 95 % interval",
            (*_MODEL, "fpr", "bound"),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.score_stability = SumGauge(
            "parallax_score_stability_index",
            "Population stability index of the latest scores against the calibration's",
            _MODEL,
            partial(of_parts, stability_index),
            registry=registry,
        )
        self.score_distance = SumGauge(
            "parallax_score_ks_distance",
            "Kolmogorov-Smirnov distance of the latest scores from the calibration's",
            _MODEL,
            partial(of_parts, ks_distance),
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
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.workers = Gauge(
            "parallax_workers",
            "Processes that answer requests",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.restarts = Counter(
            "parallax_worker_restarts_total",
            "Workers that ended and were replaced",
            registry=registry,
        )
        self._sums = (
            *(self.pending, self.adversarial_rate, self.alarm_rate),
            *(self.score_stability, self.score_distance),
        )
        self._process: _ProcessShare | None = None
        self._shown = registry
        if files is None:
            ProcessCollector(registry=registry)
        else:
            self._process = _ProcessShare(registry)
            self._shown = CollectorRegistry()
            self._shown.register(_Merged(registry, self._sums, files))

    @property
    def shared(self) -> bool:
        """Whether there are other processes, so that `refresh` is needed from time to time."""
        return self._process is not None

    def refresh(self) -> None:
        """Leave for the other processes what this one must be asked for, if there are any."""
        if self._process is not None:
            self._process.refresh()
            for gauge in self._sums:
                gauge.refresh()

    def exposition(self, *, with_scores: bool = True) -> bytes:
        """Prometheus text format, of all processes. Two readings around a probe tell its score; so
        it may be told without what comes from scores and from the ways' labels.
        """
        self.refresh()
        return generate_latest(self._shown if with_scores else _WithoutScores(self._shown))


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


def _sum(processes: int, parts: Parts) -> float:
    return parts[0]


def _share(processes: int, parts: Parts) -> float:
    """Of flagged images, and all."""
    flagged, images = parts
    return flagged / images if images else 0.0


class _ProcessShare:
    """The library's `process_*` metrics of this process, in values that add up over all of them."""

    _MODES: Mapping[str, Literal["livemin", "livesum"]] = {"process_start_time_seconds": "livemin"}

    def __init__(self, registry: CollectorRegistry) -> None:
        self._collector = ProcessCollector(registry=None)
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._counted: dict[str, float] = {}  # by this process; its predecessors' stays in the sum
        for family in self._collector.collect():
            if family.type == "counter":
                self._counters[family.name] = Counter(
                    family.name, family.documentation, registry=registry
                )
            else:
                self._gauges[family.name] = Gauge(
                    family.name,
                    family.documentation,
                    multiprocess_mode=self._MODES.get(family.name, "livesum"),
                    registry=registry,
                )

    def refresh(self) -> None:
        for family in self._collector.collect():
            (sample,) = family.samples
            if family.name in self._gauges:
                self._gauges[family.name].set(sample.value)
            elif family.name in self._counters:
                more = sample.value - self._counted.get(family.name, 0.0)
                self._counters[family.name].inc(max(0.0, more))
                self._counted[family.name] = sample.value


class _Merged(Collector):
    """What is declared, with the values of all processes."""

    def __init__(
        self, declared: CollectorRegistry, sums: Sequence[SumGauge], files: MetricFiles
    ) -> None:
        self._declared = declared
        self._sums = {gauge.name: gauge for gauge in sums}
        self._files = files

    def collect(self) -> Iterator[Metric]:
        found = self._files.collect()
        for family in self._declared.collect():
            if family.name in self._sums:
                gauge = self._sums[family.name]
                yield gauge.made_of(found.get(gauge.parts_name))
            else:
                everywhere = found.get(family.name)
                family.samples = everywhere.samples if everywhere else []
                yield family

"""What one process declares, with the values of all: the metrics where several processes serve.

Knows the library's metrics of a process by what it calls them, and of ours which model they are
about: what no process serves any more is left out, as the files keep it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, ProcessCollector
from prometheus_client.registry import Collector

from service.gauges import SumGauge
from service.metric_files import MetricFiles

_MODEL = ("model", "version")
_MODES: Mapping[str, Literal["livemin", "livesum"]] = {"process_start_time_seconds": "livemin"}


class Merged(Collector):
    """`pending` is a gauge that every process has for each of its models; `info` is 1 or gone."""

    def __init__(
        self,
        declared: CollectorRegistry,
        files: MetricFiles,
        sums: Sequence[SumGauge],
        pending: SumGauge,
        info: Gauge,
    ) -> None:
        self._declared = declared
        self._files = files
        self._sums = {gauge.name: gauge for gauge in sums}
        self._pending = pending
        (self._info,) = (family.name for family in info.describe())

    def collect(self) -> Iterator[Metric]:
        found = self._files.collect()
        pending = self._pending.made_of(found.get(self._pending.parts_name))
        served = {_model(sample.labels) for sample in pending.samples}
        for family in self._declared.collect():
            if family.name in self._sums:
                gauge = self._sums[family.name]
                yield gauge.made_of(found.get(gauge.parts_name))
                continue
            everywhere = found.get(family.name)
            family.samples = [
                sample
                for sample in (everywhere.samples if everywhere else ())
                if _model(sample.labels) in served or not all(map(sample.labels.get, _MODEL))
                if sample.value or family.name != self._info
            ]
            yield family


class ProcessShare:
    """The library's `process_*` metrics of this process, in values that add up over all of them."""

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
                    multiprocess_mode=_MODES.get(family.name, "livesum"),
                    registry=registry,
                )

    def refresh(self) -> None:
        """Leave the numbers of now."""
        for family in self._collector.collect():
            (sample,) = family.samples
            if family.name in self._gauges:
                self._gauges[family.name].set(sample.value)
            elif family.name in self._counters:
                more = sample.value - self._counted.get(family.name, 0.0)
                self._counters[family.name].inc(max(0.0, more))
                self._counted[family.name] = sample.value


def _model(labels: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(map(labels.get, _MODEL))

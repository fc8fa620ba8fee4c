"""Gauges made of sums: of one process, of several, and what a failing function does to them."""

from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from service.gauges import SumGauge


def ratio(processes: int, parts: Sequence[float]) -> float:
    return processes * parts[0] / parts[1]


def gauge_in(registry: CollectorRegistry) -> SumGauge:
    return SumGauge("some_rate", "Of something", ("model",), ratio, registry=registry)


def shown(registry: CollectorRegistry) -> dict[str, float]:
    (family,) = registry.collect()
    assert (family.name, family.type, family.documentation) == (
        "some_rate",
        "gauge",
        "Of something",
    )
    return {sample.labels["model"]: sample.value for sample in family.samples}


def test_it_is_asked_when_it_is_read() -> None:
    registry = CollectorRegistry()
    gauge, parts = gauge_in(registry), [1.0, 4.0]
    assert shown(registry) == {}
    gauge.watch(("a",), lambda: parts)
    assert shown(registry) == {"a": 0.25}
    parts[0] = 2.0
    assert shown(registry) == {"a": 0.5}


def test_what_is_forgotten_is_not_shown() -> None:
    registry = CollectorRegistry()
    gauge = gauge_in(registry)
    gauge.watch(("a",), lambda: (1, 4))
    gauge.watch(("b",), lambda: (3, 4))
    shown(registry)
    gauge.remove_by_labels({"model": "a"})
    gauge.remove_by_labels({"model": "never watched"})
    assert shown(registry) == {"b": 0.75}
    gauge.watch(("a",), lambda: (1, 2))
    assert shown(registry) == {"a": 0.5, "b": 0.75}


def test_sums_of_processes_and_not_means() -> None:
    registry = CollectorRegistry()
    gauge = gauge_in(registry)
    left = Metric("some_rate_parts", "", "gauge")
    for place, total in ((0, 2), (1, 1 + 2), (2, 10 + 2)):
        left.add_sample("some_rate_parts", {"model": "a", "part": str(place)}, total)
    left.add_sample("some_rate_parts", {"model": "gone", "part": "0"}, 0)
    (sample,) = gauge.made_of(left).samples
    assert (sample.labels, sample.value) == ({"model": "a"}, 2 * 3 / 12)
    assert gauge.made_of(None).samples == []


def test_a_function_that_fails_hides_its_gauge_alone(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    gauge, divisor = gauge_in(registry), [0]
    gauge.watch(("broken",), lambda: (1 // divisor[0], 4))
    gauge.watch(("whole",), lambda: (1, 4))
    for _ in range(3):
        assert shown(registry) == {"whole": 0.25}
    assert [record.getMessage() for record in caplog.records] == [
        "some_rate of ('broken',) cannot be told"
    ]
    divisor[0] = 1
    assert shown(registry) == {"broken": 0.25, "whole": 0.25}

"""Lanes switch while requests are under way: who has a lane keeps it until it is answered."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.assembly import load_catalogue, reload_catalogue
from service.catalogue import Catalogue
from service.errors import ModelUnknown, ShuttingDown
from service.images import Upload
from service.inference import infer
from service.lanes import Lane, Lanes
from service.metrics import Metrics
from service.pipeline import Examined, Pipeline
from service.policies import Wish
from service.repository import loader_of
from service.settings import Settings
from tests.service.conftest import MakeSettings
from tests.service.toy import ATTACKED, NATURAL, ToyFolder, calibrated


def load(settings: Settings, old: Catalogue | None = None) -> Catalogue:
    if old is None:
        return load_catalogue(settings.models, loader_of(settings), default_model=None)
    return reload_catalogue(
        settings.models, loader_of(settings), old, default_model=None, fits=lambda model: None
    )


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Runs of version 1 say that they began, and go on when they may."""
    began, may = threading.Event(), threading.Event()

    def held(model: Any, chunks: Any) -> Any:
        if model.version == 1:
            began.set()
            assert may.wait(120)
        return infer(model, chunks)

    monkeypatch.setattr("service.lanes.infer", held)
    yield began, may
    may.set()


async def examine(pipeline: Pipeline, lane: Lane, data: bytes = NATURAL) -> Any:
    (entry,) = await pipeline.examine([Upload(data)], lane, pipeline.rule(lane, Wish()))
    return entry


async def settled(lanes: Lanes) -> None:
    """Every lane that left is closed."""
    await asyncio.gather(*lanes._retiring)


def test_requests_finish_where_they_began(
    toy: ToyFolder,
    settings_of: MakeSettings,
    gate: tuple[threading.Event, threading.Event],
) -> None:
    began, may = gate

    async def scenario() -> None:
        settings = settings_of()
        metrics = Metrics(CollectorRegistry())
        pipeline = Pipeline(load(settings), settings, metrics)
        await pipeline.start()
        old = pipeline.lane(None, None)
        running = asyncio.ensure_future(examine(pipeline, old))
        await asyncio.to_thread(began.wait)
        ToyFolder(toy.root, version=2).write()
        toy.path.rename(toy.root / "away")
        pipeline.lanes.switch(load(settings, pipeline.catalogue))
        assert pipeline.ready
        assert isinstance(await examine(pipeline, pipeline.lane(None, None)), Examined)
        with pytest.raises(ModelUnknown):
            pipeline.lane("toy", 1)
        late = asyncio.ensure_future(examine(pipeline, old))  # it found its lane before the switch
        may.set()
        assert isinstance(await running, Examined)
        assert isinstance(await late, Examined)
        await pipeline.close()
        with pytest.raises(ShuttingDown):
            await examine(pipeline, old)

    asyncio.run(scenario())


def test_what_is_in_both_catalogues_keeps_its_lane(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    async def scenario() -> None:
        settings = settings_of(deadline_ms=1)
        lanes = Lanes(load(settings), settings, Metrics(CollectorRegistry()))
        lanes.start()
        lane = lanes.find("toy", 1)
        ToyFolder(toy.root, version=2).write()
        lanes.switch(load(settings, lanes.catalogue))
        await settled(lanes)
        assert lanes.find("toy", 1) is lane
        assert lane.batcher.running
        assert lanes.find("toy", None).model.version == 2
        assert lanes.find("toy", 2).model.session is lane.model.session
        await lanes.close()
        assert not lane.batcher.running

    asyncio.run(scenario())


def told(metrics: Metrics) -> set[tuple[str, str]]:
    """Names and versions of models in the exposition's samples, with the metric's name."""
    return {
        (family.name, sample.labels["version"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if "version" in sample.labels
    }


def test_nothing_is_told_of_a_version_that_left(toy: ToyFolder, settings_of: MakeSettings) -> None:
    toy.changes["decision"] = calibrated()
    toy.write()

    async def scenario() -> None:
        settings = settings_of(deadline_ms=1)
        metrics = Metrics(CollectorRegistry())
        lanes = Lanes(load(settings), settings, metrics)
        pipeline = Pipeline(lanes.catalogue, settings_of(), metrics)
        await pipeline.start()
        await examine(pipeline, pipeline.lane(None, None), ATTACKED)
        lanes.start()
        families = {name for name, _ in told(metrics)}
        assert families >= {
            *("parallax_images", "parallax_detections", "parallax_score", "parallax_alarm_rate"),
            *("parallax_batch_size", "parallax_pending_images", "parallax_adversarial_rate"),
            *("parallax_promised_alarm_rate", "parallax_score_ks_distance", "parallax_model_info"),
            "parallax_score_stability_index",
        }
        ToyFolder(toy.root, version=2, changes={"decision": calibrated()}).write()
        toy.path.rename(toy.root / "away")
        lanes.switch(load(settings, lanes.catalogue))
        await settled(lanes)
        assert {version for _, version in told(metrics)} == {"2"}
        await lanes.close()
        await pipeline.close()

    asyncio.run(scenario())


def test_a_version_that_is_back_before_its_lane_is_closed_is_still_told_of(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    async def scenario() -> None:
        settings = settings_of(deadline_ms=1)
        metrics = Metrics(CollectorRegistry())
        lanes = Lanes(load(settings), settings, metrics)
        lanes.start()
        first = lanes.find("toy", 1)
        toy.changes["description"] = "written over"
        toy.write()
        lanes.switch(load(settings, lanes.catalogue))
        second = lanes.find("toy", 1)
        assert second is not first
        await settled(lanes)
        assert not first.batcher.running
        assert second.batcher.running
        assert ("parallax_pending_images", "1") in told(metrics)
        await lanes.close()

    asyncio.run(scenario())


def test_lanes_that_are_leaving_are_closed_with_the_rest(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    async def scenario() -> None:
        settings = settings_of()
        lanes = Lanes(load(settings), settings, Metrics(CollectorRegistry()))
        lanes.start()
        first = lanes.find("toy", 1)
        ToyFolder(toy.root, version=2).write()
        toy.path.rename(toy.root / "away")
        lanes.switch(load(settings, lanes.catalogue))
        assert first.batcher.running
        await lanes.close()
        assert not first.batcher.running

    asyncio.run(scenario())


def test_the_default_is_told_anew(toy: ToyFolder, settings_of: MakeSettings) -> None:
    async def scenario() -> None:
        settings = settings_of()
        metrics = Metrics(CollectorRegistry())
        lanes = Lanes(load(settings), settings, metrics)
        lanes.start()
        ToyFolder(toy.root, version=2).write()
        lanes.switch(load(settings, lanes.catalogue))
        defaults = {
            sample.labels["version"]: sample.labels["default"]
            for family in metrics.model_info.collect()
            for sample in family.samples
        }
        assert defaults == {"1": "false", "2": "true"}
        await lanes.close()

    asyncio.run(scenario())


def test_a_failed_run_fails_its_batch_and_nothing_else(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The runtime fails once; the requests before, beside and after it are answered."""
    ToyFolder(toy.root, name="other").write()

    async def scenario() -> None:
        settings = settings_of()
        pipeline = Pipeline(load(settings), settings, Metrics(CollectorRegistry()))
        await pipeline.start()
        lane, other = pipeline.lane("toy", None), pipeline.lane("other", None)
        assert isinstance(await examine(pipeline, lane), Examined)
        run = lane.model.session.run

        def fail(*arguments: Any) -> Any:
            monkeypatch.setattr(lane.model.session, "run", run)
            raise RuntimeError("out of memory")

        monkeypatch.setattr(lane.model.session, "run", fail)
        failed, beside = await asyncio.gather(examine(pipeline, lane), examine(pipeline, other))
        assert failed.code == "inference-failed"
        assert failed.status == 500
        assert isinstance(beside, Examined)
        assert isinstance(await examine(pipeline, lane), Examined)
        await pipeline.close()

    asyncio.run(scenario())

"""The pipeline under its settings: overload, deadlines, failing models, what is recorded."""

import asyncio
import threading
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.assembly import load_catalogue
from service.errors import (
    DeadlineExceeded,
    ImageRefused,
    InferenceFailed,
    Overloaded,
    PolicyUnavailable,
    SettingsRefused,
    ShuttingDown,
)
from service.images import Upload, prepare
from service.inference import infer
from service.metrics import Metrics
from service.pipeline import Entry, Examined, Pipeline
from service.policies import Wish
from service.repository import loader_of
from tests.service.conftest import MakeSettings
from tests.service.toy import (
    ATTACKED,
    NATURAL,
    ToyFolder,
    calibrated,
    encode,
    pixels,
    toy_answers,
    toy_network,
)


def pipeline_of(settings_of: MakeSettings, **options: Any) -> Pipeline:
    settings = settings_of(**options)
    catalogue = load_catalogue(
        settings.models, loader_of(settings), default_model=settings.default_model
    )
    return Pipeline(catalogue, settings, Metrics(CollectorRegistry()))


def examine(pipeline: Pipeline, *data: bytes) -> Awaitable[list[Entry]]:
    lane = pipeline.lane(None, None)
    return pipeline.examine([Upload(one) for one in data], lane, pipeline.rule(lane, Wish()))


def test_entries_stand_in_the_places_of_their_uploads(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    async def scenario() -> None:
        pipeline = pipeline_of(settings_of)
        await pipeline.start()
        entries = await examine(pipeline, b"bad", ATTACKED, b"", NATURAL)
        await pipeline.close()
        flags = [isinstance(e, Examined) and e.finding.adversarial for e in entries]
        assert flags == [False, True, False, False]
        assert [isinstance(entry, ImageRefused) for entry in entries] == [True, False, True, False]

    asyncio.run(scenario())


def test_not_ready_before_start_and_after_close(toy: ToyFolder, settings_of: MakeSettings) -> None:
    async def scenario() -> None:
        pipeline = pipeline_of(settings_of)
        assert not pipeline.ready
        with pytest.raises(ShuttingDown):
            await examine(pipeline, NATURAL)
        await pipeline.start()
        assert pipeline.ready
        await pipeline.close()
        assert not pipeline.ready
        with pytest.raises(ShuttingDown):
            await examine(pipeline, NATURAL)

    asyncio.run(scenario())


def test_overload_is_refused_before_decoding(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered = threading.Event(), threading.Event()

    def held(model: Any, batch: Any) -> Any:
        entered.set()
        assert gate.wait(120)
        return infer(model, batch)

    monkeypatch.setattr("service.lanes.infer", held)

    async def scenario() -> None:
        pipeline = pipeline_of(settings_of, max_pending=2, max_images=2)
        await pipeline.start()
        slow = asyncio.ensure_future(examine(pipeline, NATURAL, NATURAL))
        await asyncio.to_thread(entered.wait)
        monkeypatch.setattr("service.pipeline.prepare", None)  # calling it would be another error
        with pytest.raises(Overloaded):
            await examine(pipeline, NATURAL)
        gate.set()
        assert all(isinstance(entry, Examined) for entry in await slow)
        await pipeline.close()

    asyncio.run(scenario())


def test_deadline_is_a_setting(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def held(model: Any, batch: Any) -> Any:
        assert gate.wait(120)
        return infer(model, batch)

    monkeypatch.setattr("service.lanes.infer", held)

    async def scenario() -> None:
        pipeline = pipeline_of(settings_of, deadline_ms=20)
        await pipeline.start()
        with pytest.raises(DeadlineExceeded):
            await examine(pipeline, NATURAL)
        gate.set()
        await pipeline.close()

    asyncio.run(scenario())


def test_the_deadline_covers_decoding_and_the_wait_for_a_decoder(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered = threading.Event(), threading.Event()
    prepared: list[bytes] = []

    def held(upload: Upload, *rest: Any, **more: Any) -> Any:
        prepared.append(upload.data)
        entered.set()
        assert gate.wait(120)
        return prepare(upload, *rest, **more)

    monkeypatch.setattr("service.pipeline.prepare", held)
    monkeypatch.setattr("service.pipeline.is_light", lambda upload: False)

    async def scenario() -> None:
        pipeline = pipeline_of(settings_of, deadline_ms=200, decode_threads=1)
        await pipeline.start()
        slow = asyncio.ensure_future(examine(pipeline, NATURAL))
        await asyncio.to_thread(entered.wait)
        with pytest.raises(DeadlineExceeded):
            await examine(pipeline, ATTACKED)
        with pytest.raises(DeadlineExceeded):
            await slow
        await pipeline.close()  # does not wait for the decoder
        assert prepared == [NATURAL]
        gate.set()

    asyncio.run(scenario())


def test_times_are_parted(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one decoder an image waits for those before it; that is queueing, not decoding."""

    def slow(upload: Upload, *rest: Any, **more: Any) -> Any:
        time.sleep(0.05)
        return prepare(upload, *rest, **more)

    monkeypatch.setattr("service.pipeline.prepare", slow)
    monkeypatch.setattr("service.pipeline.is_light", lambda upload: False)

    async def scenario() -> None:
        pipeline = pipeline_of(settings_of, decode_threads=1)
        await pipeline.start()
        entries = await examine(pipeline, NATURAL, NATURAL, NATURAL)
        await pipeline.close()
        found = [entry for entry in entries if isinstance(entry, Examined)]
        waited = [entry.queue_s for entry in found]
        assert len(found) == 3
        assert all(entry.decode_s >= 0.05 for entry in found)
        assert waited[2] >= 0.1

    asyncio.run(scenario())


def test_answers_that_are_not_finite_are_no_verdict(
    tmp_path: Path, settings_of: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.full((2, 1, 4, 4), 1.0, np.float32)
    arrays = {"image": image, **toy_answers(image)}
    ToyFolder(tmp_path / "models").write(toy_network(poison=True), arrays)

    async def scenario() -> None:
        pipeline = pipeline_of(settings_of)
        await pipeline.start()
        poisoned = pixels(1, 1, 1)
        poisoned[3, 3] = 0
        first, second, third = await examine(pipeline, NATURAL, encode(poisoned), ATTACKED)
        assert isinstance(second, InferenceFailed)
        assert isinstance(first, Examined)
        assert isinstance(third, Examined)
        alone = await asyncio.gather(*(examine(pipeline, NATURAL) for _ in range(3)))
        assert first.finding.score == alone[0][0].finding.score  # type: ignore[union-attr]  # examined
        await pipeline.close()

    asyncio.run(scenario())
    assert "not finite" in caplog.text


def test_images_under_other_policies_share_a_run(toy: ToyFolder, settings_of: MakeSettings) -> None:
    toy.changes["decision"] = calibrated()
    toy.write()

    async def scenario() -> None:
        pipeline = pipeline_of(settings_of, max_delay_ms=500, max_batch=2)
        await pipeline.start()
        lane = pipeline.lane(None, None)
        rules = [pipeline.rule(lane, Wish(policy)) for policy in ("eq12", "strict")]
        both = await asyncio.gather(
            *(pipeline.examine([Upload(ATTACKED)], lane, rule) for rule in rules)
        )
        await pipeline.close()
        (first,), (second,) = both
        assert isinstance(first, Examined)
        assert isinstance(second, Examined)
        assert (first.judgement.verdict, second.judgement.verdict) == ("corrected", "reject")
        assert first.finding.score == second.finding.score
        assert first.run_s == second.run_s

    asyncio.run(scenario())


def test_a_few_small_images_are_decoded_without_a_thread(
    toy: ToyFolder, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def watched(upload: Upload, *rest: Any, **more: Any) -> Any:
        threads.append(threading.current_thread().name.split("_")[0])
        return prepare(upload, *rest, **more)

    monkeypatch.setattr("service.pipeline.prepare", watched)

    async def scenario() -> None:
        pipeline = pipeline_of(settings_of)
        await pipeline.start()
        large = encode(np.zeros((400, 400), np.uint8))
        for images in ([NATURAL] * 2, [large], [NATURAL] * 9):
            await examine(pipeline, *images)
        await pipeline.close()

    asyncio.run(scenario())
    assert threads == ["MainThread"] * 2 + ["decoder"] * 10


def test_a_tensor_is_examined_as_its_images_are(toy: ToyFolder, settings_of: MakeSettings) -> None:
    """Also where it is larger than a batch."""

    async def scenario() -> None:
        pipeline = pipeline_of(settings_of, max_batch=2)
        await pipeline.start()
        uploads = await examine(pipeline, NATURAL, ATTACKED, NATURAL)
        images = [pixels(1, 1, 1), pixels(2, 1, 2), pixels(1, 1, 1)]
        tensor = np.divide(np.stack(images)[:, None], 255, dtype=np.float32)
        lane = pipeline.lane(None, None)
        entries = await pipeline.examine_tensor(tensor, lane, pipeline.rule(lane, Wish()))
        await pipeline.close()
        assert len(entries) == 3
        for one, other in zip(entries, uploads, strict=True):
            assert isinstance(one, Examined)
            assert isinstance(other, Examined)
            assert one.judgement == other.judgement
            assert one.finding.score == other.finding.score
            assert not one.resized

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policy": "score"}, "toy version 1 cannot follow the settings: policy 'score' needs"),
        ({"fpr": 0.01}, "needs thresholds"),
    ],
)
def test_settings_that_a_model_cannot_follow(
    toy: ToyFolder, settings_of: MakeSettings, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsRefused, match=said):
        pipeline_of(settings_of, **options)


def test_an_older_version_need_not_follow_the_settings(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    changes = {"decision": calibrated()}
    ToyFolder(toy.root, version=2, changes=changes).write()
    pipeline = pipeline_of(settings_of, policy="score", fpr=0.01)
    assert pipeline.rule(pipeline.lane("toy", None), Wish()).fpr == 0.01
    old = pipeline.lane("toy", 1)
    with pytest.raises(PolicyUnavailable):
        pipeline.rule(old, Wish())
    assert pipeline.rule(old, Wish("eq12")).policy == "eq12"


def test_a_pinned_version_must_follow_the_settings_and_a_newer_one_need_not(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    ToyFolder(toy.root, version=2, changes={"decision": calibrated()}).write()
    with pytest.raises(SettingsRefused, match="toy version 1 cannot follow"):
        pipeline_of(settings_of, policy="score", default_model="toy/1")
    ToyFolder(toy.root, version=3).write()
    assert pipeline_of(settings_of, policy="score", default_model="toy/2")


def test_the_newest_version_of_every_name_must_follow_the_settings(
    toy: ToyFolder, settings_of: MakeSettings
) -> None:
    toy.changes["decision"] = calibrated()
    toy.write()
    ToyFolder(toy.root, name="other").write()
    with pytest.raises(SettingsRefused, match="other version 1 cannot follow"):
        pipeline_of(settings_of, policy="score", default_model="toy")


def test_a_default_rate_without_a_threshold(toy: ToyFolder, settings_of: MakeSettings) -> None:
    toy.changes["decision"] = calibrated()
    toy.write()
    with pytest.raises(SettingsRefused, match=r"no threshold for 0\.02; known: 0\.01, 0\.1"):
        pipeline_of(settings_of, fpr=0.02)

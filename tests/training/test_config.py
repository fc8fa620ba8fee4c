import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import training
from tests.training import tiny
from training.config import ConfigError, from_dict, load, parse_eps

CONFIGS = sorted((Path(training.__file__).parent / "configs").glob("*.toml"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.3", 0.3), ("8/255", 8 / 255), (" 8 / 255 ", 8 / 255), ("1e-2", 0.01), (0.3, 0.3), (0, 0)],
)
def test_parse_eps(text: str | float, value: float) -> None:
    assert parse_eps(text) == value


@pytest.mark.parametrize(
    "text", ["", "much", "8/", "/255", "8/0", "8/255/2", "nan", "inf", "1e999", "-0.1", "-8/255"]
)
def test_parse_eps_refuses(text: str) -> None:
    with pytest.raises(ConfigError, match=repr(text)):
        parse_eps(text)


@given(st.fractions(0, 10))
def test_every_fraction_is_a_distance(fraction: Any) -> None:
    written = f"{fraction.numerator}/{fraction.denominator}"
    assert parse_eps(written) == pytest.approx(float(fraction), rel=1e-12, abs=0.0)


def test_there_are_experiments() -> None:
    assert "mnist-fast" in [path.stem for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_experiment(path: Path) -> None:
    config = load(path)
    assert config.name == path.stem
    assert from_dict(config.as_dict()) == config


@pytest.mark.parametrize(
    ("stem", "lr", "weight_decay", "epochs", "milestones"),
    [
        ("mnist-paper", 0.1, 5e-4, 56, (50, 55)),
        ("cifar10-paper-preact", 0.05, 5e-4, 105, (75, 90, 100)),
        ("cifar10-paper-wide", 0.1, 2e-4, 105, (75, 90, 100)),
    ],
)
def test_table_5(
    stem: str, lr: float, weight_decay: float, epochs: int, milestones: tuple[int, ...]
) -> None:
    """The paper's table, and what the code it follows adds: batches of 256, gamma 0.1."""
    optimizer = load(next(path for path in CONFIGS if path.stem == stem)).optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", lr, 0.9)
    assert (optimizer.weight_decay, optimizer.epochs) == (weight_decay, epochs)
    assert (optimizer.schedule, optimizer.milestones) == ("milestones", milestones)
    assert (optimizer.gamma, optimizer.batch_size, optimizer.warm_up) == (0.1, 256, 0.0)


@pytest.mark.parametrize(
    ("stem", "norm", "eps"),
    [
        ("mnist-paper", "linf", 0.3),
        ("mnist-fast", "linf", 0.3),
        ("cifar10-paper-wide", "linf", 8 / 255),
    ],
)
def test_threat_models(stem: str, norm: str, eps: float) -> None:
    attack = load(next(path for path in CONFIGS if path.stem == stem)).attack
    assert (attack.norm, parse_eps(attack.eps)) == (norm, eps)


def test_round_trip() -> None:
    """Tuples become lists in JSON and tuples again; what is None or left out stays so."""
    config = tiny.config(
        optimizer={"milestones": [1, 2], "clip_norm": 5, "ema": 0.5},
        data={"image_size": 14, "flip": True},
    )
    plain = config.as_dict()
    assert plain["optimizer"]["milestones"] == [1, 2]
    assert plain["model"] == {"backbone": "small_cnn", "width": 1}
    assert from_dict(plain) == config
    assert from_dict(plain).optimizer.milestones == (1, 2)
    assert tiny.config().as_dict()["optimizer"]["clip_norm"] is None


def test_frozen_and_hashable() -> None:
    config = tiny.config(optimizer={"milestones": [1]})
    assert hash(config) == hash(tiny.config(optimizer={"milestones": [1]}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]  # that is the point


def test_digest_names_the_values() -> None:
    digest = tiny.config().digest()
    assert len(digest) == 64
    assert tiny.config().digest() == digest
    assert from_dict(dict(reversed(tiny.values().items()))).digest() == digest
    assert tiny.config(optimizer={"gamma": 0.1}).digest() == digest  # the default, written out
    assert tiny.config(seed=4).digest() != digest
    assert tiny.config(attack={"eps": "0.20"}).digest() != digest  # kept as it was written


def test_numbers_may_stand_for_text() -> None:
    config = tiny.config(attack={"eps": 0.25}, name=7)
    assert (config.attack.eps, config.name) == ("0.25", "7")


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        ({"colour": 1}, "colour is not a key"),
        ({"optimizer": {"learning_rate": 1}}, "optimizer.learning_rate is not a key"),
        ({"attack": {"robust": {"steps": 1, "size": 1}}}, "attack.robust.step_size is missing"),
        ({"attack": {"robust": 3}}, "attack.robust: .* not 3"),
        ({"method": "magic"}, "method: .*'aat[+][+]', not 'magic'"),
        ({"precision": "float16"}, "precision: .* not 'float16'"),
        ({"seed": "seven"}, "seed: .* not 'seven'"),
        ({"seed": -1}, "seed: .* not -1"),
        ({"seed": 2**32}, "seed: .*less than"),
        ({"data": {"validation": 0}}, "data.validation: .* not 0"),
        ({"data": {"shift": -1}}, "data.shift: .* not -1"),
        ({"data": {"flip": "maybe"}}, "data.flip: .* not 'maybe'"),
        ({"model": {"width": 0}}, "model.width: .* not 0"),
        ({"attack": {"norm": "l1"}}, "attack.norm: .* not 'l1'"),
        ({"attack": {"eps": "much"}}, "attack.eps: 'much' is not a distance"),
        ({"attack": {"eps": "-1"}}, "attack.eps: '-1' is negative"),
        ({"attack": {"eps": True}}, "attack.eps: .* not True"),
        ({"attack": {"ramp": 1.5}}, "attack.ramp: .* not 1.5"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr: .* not 0"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr: .* not nan"),
        ({"optimizer": {"epochs": 1.5}}, "optimizer.epochs: .* not 1.5"),
        ({"optimizer": {"batch_size": 0}}, "optimizer.batch_size: .* not 0"),
        ({"optimizer": {"milestones": [1, 0]}}, "optimizer.milestones.1: .* not 0"),
        ({"optimizer": {"clip_norm": 0}}, "optimizer.clip_norm: .* not 0"),
        ({"optimizer": {"ema": 1.1}}, "optimizer.ema: .* not 1.1"),
        ({"loss": {"robust": -1}}, "loss.robust: .* not -1"),
        (
            {"method": "aat", "loss": {"robust": 2}},
            "loss: .* to weigh, aat has none",
        ),
    ],
)
def test_refuses(sections: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as refusal:
        tiny.config(**sections)
    assert "\n" not in str(refusal.value)


def test_missing_section() -> None:
    values = tiny.values()
    del values["model"]
    with pytest.raises(ConfigError, match="model is missing"):
        from_dict(values)


FILE = """
name = "file"
method = "aat"
[data]
source = "mnist:data"
[model]
backbone = "small_cnn"
[attack]
norm = "linf"
eps = 0.3
standard = { steps = 4, step_size = 0.1 }
robust = { steps = 4, step_size = 0.1 }
nonrobust = { steps = 4, step_size = 0.1 }
[optimizer]
lr = 0.1
epochs = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.toml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=5", ("seed",), 5),
        ("method=st", ("method",), "st"),
        ('method="st"', ("method",), "st"),
        ("optimizer.lr=1e-3", ("optimizer", "lr"), 1e-3),
        ("optimizer.milestones=[1, 2]", ("optimizer", "milestones"), [1, 2]),
        ("data.source=parquet:/a=b", ("data", "source"), "parquet:/a=b"),
        ("data.flip=true", ("data", "flip"), True),
        ("attack.eps=8/255", ("attack", "eps"), "8/255"),
        ("attack.eps=0.1", ("attack", "eps"), "0.1"),
        ("attack.robust.steps=7", ("attack", "robust", "steps"), 7),
        ("model.width=8", ("model", "width"), 8),
    ],
)
def test_override(file: Path, override: str, key: tuple[str, ...], value: Any) -> None:
    """The one key has the value; every other is as in the file."""
    expected = load(file).as_dict()
    section = expected
    for name in key[:-1]:
        section = section[name]
    assert section[key[-1]] != value
    section[key[-1]] = value
    assert load(file, (override,)).as_dict() == expected


def test_later_overrides_win(file: Path) -> None:
    assert load(file, ("seed=5", "seed=6")).seed == 6


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("seed", "'seed' is not an override; write section.key=value"),
        ("=5", "'=5' is not an override"),
        ("name.deep=5", "'name' is a value, not a section"),
        ("optimiser.lr=5", "optimiser is not a key"),
        ("optimizer.=5", "optimizer. is not a key"),
        ("optimizer=5", "optimizer: .* not 5"),
    ],
)
def test_override_refused(file: Path, override: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(file, (override,))


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", None])
def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read .*broken\.toml"):
        load(path)

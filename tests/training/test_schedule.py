import math

import pytest

from training.config import OptimizerConfig
from training.schedule import learning_rate, ramp


def rates(config: OptimizerConfig, *, steps_per_epoch: int) -> list[float]:
    return [
        learning_rate(config, step=step, steps_per_epoch=steps_per_epoch)
        for step in range(config.epochs * steps_per_epoch)
    ]


def test_milestones() -> None:
    config = OptimizerConfig(lr=0.1, epochs=5, milestones=(2, 4), gamma=0.1)
    expected = [0.1] * 4 + [0.01] * 4 + [0.001] * 2  # two steps an epoch
    assert rates(config, steps_per_epoch=2) == pytest.approx(expected)


def test_without_milestones_the_rate_stays() -> None:
    assert rates(OptimizerConfig(lr=0.3, epochs=2), steps_per_epoch=3) == [0.3] * 6


def test_warm_up_before_milestones() -> None:
    config = OptimizerConfig(lr=1.0, epochs=4, milestones=(2,), gamma=0.5, warm_up=0.375)
    expected = [1 / 4, 2 / 4, 3 / 4, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert rates(config, steps_per_epoch=2) == pytest.approx(expected)


def test_one_cycle() -> None:
    config = OptimizerConfig(lr=2.0, epochs=4, schedule="one_cycle")
    expected = [2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)]
    assert rates(config, steps_per_epoch=1) == pytest.approx(expected)


def test_one_cycle_with_warm_up() -> None:
    config = OptimizerConfig(lr=1.0, epochs=1, schedule="one_cycle", warm_up=0.5)
    values = rates(config, steps_per_epoch=100)
    assert values.index(max(values)) == 50
    assert values[50] == 1.0
    assert values[:51] == sorted(values[:51])
    assert values[50:] == sorted(values[50:], reverse=True)
    assert values[0] == pytest.approx(1 / 51)
    assert values[75] == pytest.approx(0.5)
    assert 0 < values[99] < 0.001


@pytest.mark.parametrize(
    ("share", "step", "total", "factor"),
    [
        (0.0, 0, 10, 1.0),
        (0.3, 0, 10, 0.25),
        (0.3, 2, 10, 0.75),
        (0.3, 3, 10, 1.0),
        (0.3, 9, 10, 1.0),
        (1.0, 0, 3, 0.25),
        (1.0, 2, 3, 0.75),
        (0.25, 0, 10, 1 / 3.5),
    ],
)
def test_ramp(share: float, step: int, total: int, factor: float) -> None:
    assert ramp(share, step=step, total=total) == pytest.approx(factor)

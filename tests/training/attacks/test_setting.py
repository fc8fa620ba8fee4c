import pytest

from tests.training import examinee
from training.attacks import setting
from training.config import AttackConfig, ConfigError, Norm, StepConfig


def config(norm: Norm, eps: str) -> AttackConfig:
    step = StepConfig(steps=1, step_size="0.1")
    return AttackConfig(norm=norm, eps=eps, standard=step, robust=step, nonrobust=step)


def test_reads_what_it_writes() -> None:
    read = setting.parse("linf:8/255:2/255:20")
    assert (read.norm, read.eps, read.step_size, read.steps) == ("linf", "8/255", "2/255", 20)
    assert setting.parse(read.name) == read


def test_makes_the_attack() -> None:
    pgd = setting.parse("l2:0.5:1/8:7").pgd()
    assert (pgd.threat.norm, pgd.threat.eps) == ("l2", 0.5)
    assert (pgd.steps, pgd.step_size, pgd.random_start) == (7, 0.125, True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("linf:0.3", "write NORM:EPS:STEP_SIZE:STEPS"),
        ("linf:0.3:0.01:40:1", "write NORM:EPS:STEP_SIZE:STEPS"),
        ("l1:0.3:0.01:40", "none of linf, l2, l2_sign"),
        ("linf:much:0.01:40", "'much' is not a distance"),
        ("linf:0:0.01:40", "not a distance above 0"),
        ("linf:nan:0.01:40", "'nan' is not a distance"),
        ("linf:0.3:inf:40", "'inf' is not a distance"),
        ("linf:0.3:0.01:-4", "not a number of steps"),
        ("linf:0.3:0.01:4.5", "not a number of steps"),
    ],
)
def test_refuses(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        setting.parse(text)


@pytest.mark.parametrize(
    ("norm", "eps", "name"),
    [
        ("linf", "0.3", "linf:0.3:0.01:40"),
        ("linf", "0.30", "linf:0.30:0.01:40"),
        ("linf", "8/255", "linf:8/255:2/255:20"),
        ("l2_sign", "0.3", "l2_sign:0.3:0.1:20"),
        ("l2", "0.5", "l2:0.5:0.0625:20"),
        ("linf", "0.08", "linf:0.08:0.01:20"),
    ],
)
def test_usual(norm: Norm, eps: str, name: str) -> None:
    assert setting.usual(config(norm, eps)).name == name


def test_usual_can_be_read_back() -> None:
    usual = setting.usual(examinee.config().attack)
    assert setting.parse(usual.name) == usual


@pytest.mark.parametrize(
    ("norm", "eps", "expected"),
    [
        ("linf", "8/255", "1/255 2/255 4/255 8/255 12/255 16/255"),
        ("linf", "0.3", "0.05 0.1 0.2 0.3 0.35 0.4"),
        ("l2", "0.3", "0.0375 0.075 0.15 0.3 0.45 0.6"),
        ("l2", "0.5", "0.0625 0.125 0.25 0.5 0.75 1"),
        ("linf", "1/255", "0.125/255 0.25/255 0.5/255 1/255 1.5/255 2/255"),
    ],
)
def test_curve(norm: Norm, eps: str, expected: str) -> None:
    assert setting.curve(config(norm, eps)) == tuple(expected.split())

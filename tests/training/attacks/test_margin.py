"""How far the ways are from naming a class, on logits whose distances can be read off."""

import torch
from torch import Tensor

from training.attacks.margin import alarm, consensus, escape, margin, margins
from training.three_way import Logits


def logits(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


LABEL = torch.tensor([0, 1])
THREE = Logits(
    standard=logits([3.0, 1.0, 0.0], [0.0, 2.0, 5.0]),
    robust=logits([2.0, 2.5, 0.0], [0.0, 1.0, 4.0]),
    nonrobust=logits([0.0, 4.0, 1.0], [0.0, 9.0, 9.5]),
)


def test_margin() -> None:
    assert margin(THREE.standard, LABEL).tolist() == [2.0, -3.0]
    assert margin(THREE.robust, torch.tensor([2, 2])).tolist() == [-2.5, 3.0]


def test_margins_are_those_of_each_class() -> None:
    for logits_ in (THREE.robust, logits([1.0, 1.0, 0.0], [2.0, 2.0, 2.0])):
        expected = [margin(logits_, torch.full((2,), index)) for index in range(3)]
        assert torch.equal(margins(logits_), torch.stack(expected, dim=1))


def test_consensus_is_the_weakest_way() -> None:
    assert consensus(THREE, torch.tensor([1, 2])).tolist() == [-2.0, 0.5]


def test_escape() -> None:
    """Above zero exactly where the standard way is wrong and Eq. 12 is silent, by the lesser."""
    assert escape(THREE, LABEL).tolist() == [-2.0, 0.5]
    agree_on_the_truth = THREE._replace(standard=logits([1.0, 3.0, 0.0], [0.0, 2.0, 5.0]))
    assert escape(agree_on_the_truth, torch.tensor([0, 1])).tolist() == [0.5, 0.5]
    flagged = THREE._replace(robust=logits([2.0, 2.5, 0.0], [0.0, 6.0, 4.0]))
    assert (escape(flagged, LABEL) < 0).all()


def test_alarm() -> None:
    assert alarm(THREE, LABEL).tolist() == [4.0, 0.5]

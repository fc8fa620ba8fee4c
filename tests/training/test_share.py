"""Shares of a batch: what is drawn and cut is what one process would have drawn."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from tests.training import tiny
from training.attacks.pgd import PGD
from training.share import WHOLE, Share, SharedDropout, share_dropout
from training.threat import ThreatModel

SIZES = pytest.mark.parametrize("size", [1, 2, 3])


def shares(size: int) -> list[Share]:
    return [Share(rank=rank, size=size) for rank in range(size)]


@SIZES
def test_shares_make_the_batch(size: int) -> None:
    batch = torch.arange(12).view(6, 2)
    assert torch.equal(torch.cat([share.of(batch) for share in shares(size)]), batch)
    assert {len(share.of(batch)) for share in shares(size)} == {6 // size}


@SIZES
@pytest.mark.parametrize("norm", ["linf", "l2", "l2_sign"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_random_starts_are_those_of_the_whole_batch(
    norm: str, size: int, layout: torch.memory_format
) -> None:
    image = torch.rand(6, 3, 5, 5).contiguous(memory_format=layout)
    threat = ThreatModel(norm=norm, eps=0.3)  # type: ignore[arg-type]  # one of the three

    def start(share: Share) -> tuple[Tensor, Tensor]:
        torch.manual_seed(5)
        attack = PGD(threat=threat, steps=0, step_size=0.1, share=share)
        return attack.start(share.of(image)), torch.rand(3)  # and what is drawn after it

    whole, after = start(WHOLE)
    parts = [start(share) for share in shares(size)]
    assert torch.equal(torch.cat([part for part, _ in parts]), whole)
    assert all(torch.equal(later, after) for _, later in parts)
    assert not torch.equal(whole[:3], whole[3:])


@SIZES
@pytest.mark.parametrize("batches", [1, 2])
def test_dropout_masks_are_those_of_the_whole_batch(size: int, batches: int) -> None:
    x = torch.randn(batches, 6, 50)
    torch.manual_seed(5)
    whole = dropout(x.flatten(0, 1), 0.4).view(batches, 6, 50)
    for share in shares(size):
        layer = SharedDropout(0.4, share=share, images=6 // size)
        own = torch.cat([share.of(batch) for batch in x])
        torch.manual_seed(5)
        assert torch.equal(layer(own), torch.cat([share.of(batch) for batch in whole]))
        assert torch.equal(layer.eval()(own), own)


def test_every_dropout_layer_is_replaced_and_no_weight_renamed() -> None:
    model = tiny.model()
    names = list(model.state_dict())
    share_dropout(model, Share(rank=1, size=2), 3)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(SharedDropout) == 2
    assert nn.Dropout not in kinds
    assert list(model.state_dict()) == names

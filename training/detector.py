"""The detector head: a small network over both representations and all logits (section 2.4).

The paper's future work. It is trained here, with torch, and served as `service.scores.Head`, with
numpy. Knows what it is shown as natural and as attacked; neither where that comes from nor whether
the head is worth having.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from service.scores import Head
from training import arrays, predict
from training.attacks.apgd import APGD
from training.attacks.margin import margin
from training.observed import Observed
from training.threat import ThreatModel
from training.three_way import Encoded, Logits, ThreeWayModel

_FLOOR = 0.1  # of the mean deviation: a unit that is dead in training must not shout when it wakes
_TINY = 1e-6
_LARGEST = 16.0  # logit of what was shown; a sigmoid in double precision is 1 beyond 37


class Network(nn.Module):
    """`Head` in torch: standardise D = 2 H + 3 K inputs, a ReLU layer, one logit."""

    def __init__(self, mean: Tensor, scale: Tensor, hidden: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.hidden = nn.Linear(len(mean), hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N,) of inputs (N, D); above 0 where an image is likelier attacked than not."""
        standard = (inputs - self.mean) / self.scale
        return self.output(self.hidden(standard).relu())[:, 0]

    def of(self, encoded: Encoded, logits: Logits) -> Tensor:
        """The same of what the model says of a batch."""
        return self(torch.cat((*encoded, *logits), dim=1))

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """All logits times `factor`."""
        self.output.weight.mul_(factor)
        self.output.bias.mul_(factor)

    def head(self) -> Head:
        """The weights as the service takes them."""
        return Head(
            mean=_numpy(self.mean),
            scale=_numpy(self.scale),
            hidden_weight=_numpy(self.hidden.weight),
            hidden_bias=_numpy(self.hidden.bias),
            output_weight=_numpy(self.output.weight)[0],
            output_bias=float(self.output.bias),
        )


@dataclass(frozen=True, kw_only=True)
class Fit:
    """AdamW on the cross entropy; both kinds of images weigh the same, and so do groups of one."""

    hidden: int = 64
    epochs: int = 60
    batch_size: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0

    def __call__(self, natural: Sequence[Observed], attacked: Sequence[Observed]) -> Network:
        """Train on the CPU: the network is small and its inputs are there already.

        At the end its logits are scaled where they are so large that scores of 1 would tie, which
        changes no order among images.
        """
        groups = [(part, 0.0, 0.5 / len(natural)) for part in natural]
        groups += [(part, 1.0, 0.5 / len(attacked)) for part in attacked]
        x = torch.from_numpy(np.concatenate([inputs(part) for part, _, _ in groups]))
        y = torch.cat([torch.full((len(part),), label) for part, label, _ in groups])
        weight = torch.cat(
            [torch.full((len(part),), share / len(part)) for part, _, share in groups]
        )
        weight *= len(weight)
        predict.reseed(self.seed)
        scale = x.std(dim=0)
        scale = scale.clamp_min(max(_FLOOR * float(scale.mean()), _TINY))
        network = Network(x.mean(dim=0), scale, self.hidden)
        steps = self.epochs * -(-len(x) // self.batch_size)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=self.lr, weight_decay=self.weight_decay
        )
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(x)).split(self.batch_size):
                optimizer.zero_grad()
                loss = binary_cross_entropy_with_logits(network(x[rows]), y[rows], weight[rows])
                loss.backward()
                optimizer.step()
                falling.step()
        with torch.no_grad():
            network.shrink(min(1.0, _LARGEST / float(network(x).abs().max())))
        return network.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class Unnoticed:
    """APGD for images that the standard way gets wrong and the head takes for natural."""

    network: Network
    threat: ThreatModel
    steps: int

    def __call__(self, model: ThreeWayModel, image: Tensor, label: Tensor) -> Tensor:
        """Attacked images (N, C, H, W) in [0, 1]; the best attempt where none got through."""
        network = self.network.to(image.device)

        def value(x: Tensor) -> Tensor:
            encoded = model.encode(x)
            logits = model.decide(encoded)
            return torch.minimum(-margin(logits.standard, label), -network.of(encoded, logits))

        return APGD(threat=self.threat, steps=self.steps)(value, image).image


def inputs(observed: Observed) -> NDArray[np.float32]:
    """What the head looks at, (N, D), in the order of `service.scores.detected`."""
    features, logits = observed.features, observed.logits
    return np.concatenate(
        (
            *(features.robust, features.nonrobust),
            *(logits.standard, logits.robust, logits.nonrobust),
        ),
        axis=1,
    ).astype(np.float32)


def save(path: Path, head: Head) -> str:
    """Write the weights under the names of `Head`'s fields; returns the file's SHA-256.

    Raises:
        OutputError: the place cannot be written to.
    """
    arrays.write(path, {part.name: np.asarray(getattr(head, part.name)) for part in fields(head)})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().numpy().astype(np.float64)

"""Parameter counts against the published networks, minus the output layer that is taken off."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from training import backbones
from training.backbones.preact_resnet import PreActBlock
from training.backbones.torchvision_backbone import TorchvisionBackbone
from training.config import ConfigError, ModelConfig


class Published(NamedTuple):
    name: str
    shape: tuple[int, int, int]
    features: int
    parameters: int  # of the whole classifier for ten classes


PUBLISHED = [
    # Convolutions 320 + 9,248 + 18,496 + 36,928, hidden 205,000 + 40,200, output 2,010.
    Published("small_cnn", (1, 28, 28), 200, 312_202),
    Published("preact_resnet18", (3, 32, 32), 512, 11_171_146),
    Published("wide_resnet34_10", (3, 32, 32), 640, 46_160_474),
    Published("torchvision:resnet18", (3, 32, 32), 512, 11_181_642),
]


def build(name: str, shape: tuple[int, int, int], width: int | None = None) -> backbones.Encoder:
    channels, height, columns = shape
    return backbones.build(
        ModelConfig(backbone=name, width=width), channels=channels, height=height, width=columns
    )


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_parameter_count(published: Published) -> None:
    with torch.device("meta"):
        encoder = build(published.name, published.shape)
    output_layer = published.features * 10 + 10
    assert encoder.features == published.features
    assert parameters(encoder.network) == published.parameters - output_layer


def preact_parameters(width: int) -> int:
    """Counted by hand: a block's norms 2a + 2b, convolutions 9ab + 9bb, shortcut ab."""

    def block(inputs: int, outputs: int, projected: bool) -> int:
        convolutions = 9 * inputs * outputs + 9 * outputs**2 + inputs * outputs * projected
        return 2 * inputs + 2 * outputs + convolutions

    total = 3 * width * 9
    for inputs, outputs in ((1, 1), (1, 2), (2, 4), (4, 8)):
        total += block(inputs * width, outputs * width, projected=inputs != outputs)
        total += block(outputs * width, outputs * width, projected=False)
    return total


@pytest.mark.parametrize("width", [4, 64])
def test_preact_by_hand(width: int) -> None:
    with torch.device("meta"):
        assert parameters(
            build("preact_resnet18", (3, 32, 32), width).network
        ) == preact_parameters(width)


@pytest.mark.parametrize(
    ("name", "shape", "width", "features"),
    [
        ("small_cnn", (1, 28, 28), None, 200),
        ("small_cnn", (3, 16, 20), 2, 200),
        ("preact_resnet18", (3, 32, 32), 2, 16),
        ("preact_resnet18", (1, 28, 28), 3, 24),
        ("wide_resnet34_10", (3, 32, 32), 2, 8),
        ("wide_resnet34_10", (3, 32, 32), 16, 64),
    ],
)
def test_features(name: str, shape: tuple[int, int, int], width: int | None, features: int) -> None:
    encoder = build(name, shape, width)
    assert encoder.features == features
    assert encoder.network(torch.rand(2, *shape)).shape == (2, features)


def test_downsampling() -> None:
    """32 pixels end as 4 in the ResNet (three strides) and as 8 in the wide one (two)."""
    for name, side in (("preact_resnet18", 4), ("wide_resnet34_10", 8)):
        network = build(name, (3, 32, 32), 2).network
        stages, stem = network.get_submodule("stages"), network.get_submodule("stem")
        assert stages(stem(torch.rand(1, 3, 32, 32))).shape[2:] == (side, side)


def test_wide_depth() -> None:
    """34 = stem, 30 convolutions in 15 blocks, the output layer, and two counted by convention."""
    network = build("wide_resnet34_10", (3, 32, 32), 2).network
    assert sum(isinstance(module, PreActBlock) for module in network.modules()) == 15


def identity_block(inputs: int, outputs: int, stride: int) -> PreActBlock:
    """Convolutions that do nothing on the branch, so that only the shortcut is left."""
    block = PreActBlock(inputs, outputs, stride).eval()
    nn.init.zeros_(block.conv2.weight)
    return block


def test_block_adds_its_input_untouched() -> None:
    image = torch.randn(2, 3, 4, 4)
    assert torch.equal(identity_block(3, 3, 1)(image), image)


def test_block_projects_the_activated_input() -> None:
    """The published block projects relu(norm(x)), so that a negative input is lost."""
    block = identity_block(1, 2, 2)
    assert block.shortcut is not None
    nn.init.ones_(block.shortcut.weight)
    image = torch.tensor([[-1.0, 2.0, 3.0, 4.0]] * 4).view(1, 1, 4, 4)
    scale = 1 / (1 + 1e-5) ** 0.5  # running variance one, and the norm's epsilon
    projected = block(image)
    assert projected.shape == (1, 2, 2, 2)
    torch.testing.assert_close(projected[0, 0], torch.tensor([[0.0, 3.0], [0.0, 3.0]]) * scale)


def test_preact_ends_without_a_norm() -> None:
    """Features may be negative, unlike the wide network's, which end in norm and ReLU."""
    torch.manual_seed(0)
    image = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert float(build("preact_resnet18", (3, 32, 32), 4).network(image).min()) < 0
        assert float(build("wide_resnet34_10", (3, 32, 32), 2).network(image).min()) >= 0


def test_small_cnn_layers() -> None:
    network = build("small_cnn", (1, 28, 28)).network
    kinds = [type(module).__name__ for module in network.modules() if not list(module.children())]
    pair = ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert kinds == [*pair, *pair, "Linear", "ReLU", "Dropout", "Linear", "ReLU"]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.padding == (0, 0)
            assert module.bias is not None
            assert module.bias.count_nonzero() == 0


def test_small_cnn_least_size() -> None:
    assert build("small_cnn", (1, 16, 16)).network(torch.rand(1, 1, 16, 16)).shape == (1, 200)
    for height, width in ((15, 16), (16, 15)):
        with pytest.raises(ConfigError, match=f"16x16 or more, not {height}x{width}"):
            build("small_cnn", (1, height, width))


FAMILIES = [
    ("alexnet", 64, 4096),
    ("densenet121", 32, 1024),
    ("efficientnet_b0", 32, 1280),
    ("convnext_tiny", 32, 768),
    ("googlenet", 32, 1024),
    ("inception_v3", 80, 2048),
    ("mnasnet0_5", 32, 1280),
    ("mobilenet_v2", 32, 1280),
    ("mobilenet_v3_small", 32, 1024),
    ("resnet18", 32, 512),
    ("shufflenet_v2_x0_5", 32, 1024),
    ("squeezenet1_1", 32, 512),
    ("swin_t", 32, 768),
    ("vgg11", 32, 4096),
    ("vit_b_16", 224, 768),
]


@pytest.mark.parametrize(("name", "side", "features"), FAMILIES)
def test_torchvision_family(name: str, side: int, features: int) -> None:
    """Built without memory or arithmetic; train mode too gives one tensor, never auxiliaries."""
    with torch.device("meta"):
        encoder = build(f"torchvision:{name}", (3, side, side))
        shape = encoder.network.train()(torch.zeros(2, 3, side, side)).shape
    assert encoder.features == features
    assert shape == (2, features)


def test_torchvision_on_numbers() -> None:
    """What is cut off is the output layer: the features are what torchvision puts into it."""
    torch.manual_seed(0)
    encoder = build("torchvision:resnet18", (3, 32, 32)).network.eval()
    assert isinstance(encoder, TorchvisionBackbone)
    image = torch.rand(2, 3, 32, 32)
    resnet = encoder.network
    hidden = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(image))))
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        hidden = stage(hidden)
    assert torch.equal(encoder(image), hidden.mean(dim=(2, 3)))


def test_torchvision_repeats_grey() -> None:
    torch.manual_seed(0)
    grey = build("torchvision:shufflenet_v2_x0_5", (1, 32, 32)).network.eval()
    torch.manual_seed(0)
    colour = build("torchvision:shufflenet_v2_x0_5", (3, 32, 32)).network.eval()
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(grey(image), colour(image.expand(-1, 3, -1, -1)))


def test_torchvision_starts_in_train_mode() -> None:
    network = build("torchvision:shufflenet_v2_x0_5", (3, 32, 32)).network
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("name", "shape", "width", "fault"),
    [
        ("resnet9000", (3, 32, 32), None, "unknown backbone 'resnet9000'; known: small_cnn"),
        ("torchvision", (3, 32, 32), None, "unknown backbone 'torchvision'"),
        ("torchvision:", (3, 32, 32), None, "unknown backbone 'torchvision:'"),
        ("torchvision:resnet9000", (3, 32, 32), None, "no classifier 'resnet9000'"),
        ("torchvision:fcn_resnet50", (3, 32, 32), None, "no classifier 'fcn_resnet50'"),
        ("torchvision:resnet18", (3, 32, 32), 8, "model.width=8: torchvision networks have no"),
        ("torchvision:resnet18", (2, 32, 32), None, "cannot take images of 2x32x32"),
        ("torchvision:alexnet", (3, 28, 28), None, "cannot take images of 3x28x28"),
    ],
)
def test_refused(name: str, shape: tuple[int, int, int], width: int | None, fault: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=fault):
        build(name, shape, width)


def test_a_seed_decides_the_weights() -> None:
    def weights() -> Tensor:
        torch.manual_seed(1)
        network = build("small_cnn", (1, 16, 16), 2).network
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    assert torch.equal(weights(), weights())

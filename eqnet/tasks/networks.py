"""The small networks of the built-in tasks.

Every convolution is followed by its own batch norm, so that all of them fold into the layer before.
"""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Basic residual block: two 3×3 convolutions around a shortcut (He et al. 2016, arXiv 1512.03385, fig. 2).

    The shortcut is the identity where shapes allow it, else a 1×1 convolution (the paper's option B).

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.short = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(*_conv(inputs, outputs, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y)) + self.short(x)
        return self.relu(y)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


class Network(nn.Module):
    """A network that can be built anew from its class and arguments.

    Args:
        arguments: those of the constructor.

    Attributes:
        arguments: as given.
    """

    def __init__(self, **arguments: int) -> None:
        super().__init__()
        self.arguments = arguments


class ResNet(Network):
    """Residual network in its CIFAR form: three stages of growing width (arXiv 1512.03385, sec. 4.2).

    Easy to quantize: plain convolutions only, with ReLU between them.

    Args:
        blocks: residual blocks in a stage; the paper's n.
        width: channels of the first stage; each later stage has twice as many and half the resolution.
        channels: of the input.
        classes: of the output.
    """

    def __init__(self, blocks: int = 1, width: int = 16, channels: int = 1, classes: int = 10) -> None:
        super().__init__(blocks=blocks, width=width, channels=channels, classes=classes)
        self.stem = nn.Sequential(*_conv(channels, width, 3), nn.ReLU())
        widths = [width, 2 * width, 4 * width]
        body = []
        inputs = width
        for stage, outputs in enumerate(widths):
            for block in range(blocks):
                body.append(ResidualBlock(inputs, outputs, stride=2 if stage and not block else 1))
                inputs = outputs
        self.body = nn.Sequential(*body)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → logits [N, classes]."""
        return self.fc(_pooled(self.body(self.stem(x))))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Expansion, depthwise 3×3, linear projection (MobileNetV2; Sandler et al. 2018, arXiv 1801.04381, fig. 4).

    Args:
        inputs: input channels.
        outputs: output channels; a shortcut is added where they equal ``inputs`` and the stride is 1.
        stride: of the depthwise convolution.
        expansion: channels of the depthwise convolution per input channel; the paper's t.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        middle = inputs * expansion
        self.shortcut = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *_conv(inputs, middle, 1),
            nn.ReLU6(),
            *_conv(middle, middle, 3, stride, groups=middle),
            nn.ReLU6(),
            *_conv(middle, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y


class MobileNet(Network):
    """A small MobileNetV2 (arXiv 1801.04381), with five inverted residuals.

    Hard to quantize: the ranges of depthwise channels differ widely, and projections have no activation.

    Args:
        channels: of the input.
        classes: of the output.
    """

    PLAN = ((12, 12, 1), (12, 20, 2), (20, 20, 1), (20, 32, 2), (32, 32, 1))
    """Input channels, output channels and stride of each inverted residual."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__(channels=channels, classes=classes)
        first, last, features = self.PLAN[0][0], self.PLAN[-1][1], 96
        self.stem = nn.Sequential(*_conv(channels, first, 3, stride=2), nn.ReLU6())
        self.body = nn.Sequential(*(InvertedResidual(*row) for row in self.PLAN))
        self.head = nn.Sequential(*_conv(last, features, 1), nn.ReLU6())
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] → logits [N, classes]."""
        return self.fc(_pooled(self.head(self.body(self.stem(x)))))  # type: ignore[no-any-return]


class DigitsNet(Network):
    """Ten layers of every common kind, for 8×8 images: plain, strided, depthwise, 1×1 and linear; 40,000 weights.

    Args:
        classes: of the output.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__(classes=classes)
        self.stem = nn.Sequential(*_conv(1, 16, 3), nn.ReLU())
        self.residual = nn.Sequential(ResidualBlock(16, 32, stride=2), ResidualBlock(32, 32))
        self.separable = nn.Sequential(*_conv(32, 32, 3, groups=32), nn.ReLU(), *_conv(32, 64, 1), nn.ReLU())
        self.head = nn.Sequential(*_conv(64, 64, 1), nn.ReLU())
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 1, 8, 8] → logits [N, classes]."""
        return self.fc(_pooled(self.head(self.separable(self.residual(self.stem(x))))))  # type: ignore[no-any-return]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution that keeps the resolution (but for its stride), and its batch norm."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


def _pooled(x: Tensor) -> Tensor:
    """Mean over the positions: [N, C, H, W] → [N, C]."""
    return x.mean(dim=(2, 3))


NETWORKS: dict[str, type[Network]] = {kind.__name__: kind for kind in (ResNet, MobileNet, DigitsNet)}
"""By name, for whoever builds them anew."""

"""Hand-made residual networks as modules. `engine.architecture.hand_made` defines their shapes.

The networks take pixels in 0..1 and normalise the images themselves. Weights are initialised as in the authors' code (He et al.
2015, arXiv 1502.01852). The classifier's bias is zero. The weights of convolutions are normal with variance 2 / (outputs * taps),
where taps is the number of pixels of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from engine.architecture.hand_made import Block, ResidualShape
from engine.architecture.placement import check_size
from engine.space.network import per_channel


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class PostActivationBlock(nn.Module):
    """A residual block with BatchNorm and ReLU after the convolutions (He et al. 2016a, arXiv 1512.03385).

    The block computes convolution, BatchNorm, ReLU, convolution and BatchNorm, then adds the shortcut and applies ReLU. A
    shortcut that is a 1x1 convolution has its own BatchNorm.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv1, self.norm1 = _convolution(block.inputs, block.outputs, 3, block.stride), nn.BatchNorm2d(block.outputs)
        self.conv2, self.norm2 = _convolution(block.outputs, block.outputs, 3), nn.BatchNorm2d(block.outputs)
        self.shortcut = nn.Sequential(_convolution(block.inputs, block.outputs, 1, block.stride),
                                      nn.BatchNorm2d(block.outputs)) if block.projects else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H / stride, W / stride], rounded up."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class PreActivationBlock(nn.Module):
    """A residual block with BatchNorm and ReLU before the convolutions (He et al. 2016b, arXiv 1603.05027).

    The block computes BatchNorm, ReLU, convolution, BatchNorm, ReLU and convolution, then adds the shortcut. As in the authors'
    code, the input of a shortcut depends on its kind. A 1x1 convolution reads the output of the first ReLU, and an identity reads
    the input of the block.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(block.inputs), _convolution(block.inputs, block.outputs, 3, block.stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(block.outputs), _convolution(block.outputs, block.outputs, 3)
        self.shortcut = _convolution(block.inputs, block.outputs, 1, block.stride) if block.projects else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H / stride, W / stride], rounded up."""
        activated = F.relu(self.norm1(x))
        y: Tensor = self.conv2(F.relu(self.norm2(self.conv1(activated))))
        return y + (x if self.shortcut is None else self.shortcut(activated))


class ResidualNetwork(nn.Module):
    """A residual network: stem, stages of residual blocks, global average and linear classifier.

    Attributes:
        plan, classes, image_shape: the constructor's arguments of the same names.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, plan: ResidualShape, *, classes: int, image_shape: Sequence[int], mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None) -> None:
        """Build the network with weights drawn from the global generator.

        Args:
            plan: shape of the network, from `engine.architecture.hand_made`.
            classes: number of classes.
            image_shape: (channels, height, width) of an image.
            mean: one number per image channel. The network subtracts it from pixels in 0..1. None for 0.
            std: one number per image channel. The network divides by it after the subtraction. None for 1.

        Raises:
            ConfigError: sizes are invalid, or mean or std has the wrong length.
        """
        super().__init__()
        check_size(plan.stem, classes, image_shape)
        self.plan, self.classes, self.image_shape = plan, classes, tuple(image_shape)
        self.register_buffer("mean", per_channel("mean", mean, 0.0, image_shape[0]))
        self.register_buffer("std", per_channel("std", std, 1.0, image_shape[0]))
        block = PreActivationBlock if plan.preactivation else PostActivationBlock
        self.stem = _convolution(image_shape[0], plan.stem, 3)
        self.blocks = nn.Sequential(*map(block, plan.blocks()))
        # This BatchNorm follows the stem, or with pre-activation the last block.
        self.norm = nn.BatchNorm2d(plan.widths[-1] if plan.preactivation else plan.stem)
        self.classifier = nn.Linear(plan.widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits [B, classes] of images x [B, C, H, W], pixels in 0..1."""
        x = self.stem((x - self.mean[:, None, None]) / self.std[:, None, None])
        x = F.relu(self.norm(self.blocks(x))) if self.plan.preactivation else self.blocks(F.relu(self.norm(x)))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits

"""The networks of maskgan_jax/models in PyTorch, to measure against and to exchange weights with.

The names of the generator's and the discriminator's parameters are those of `UnetGenerator` and `NLayerDiscriminator` in
junyanz/pytorch-CycleGAN-and-pix2pix, whose state dicts fit where they are of the same norm (convert.py tells what does not).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional

MOST_CHANNELS = 8  # Times the width.


def create_norm(kind: str, channels: int) -> nn.Module:
    """'instance', 'batch' or 'none', with scale and shift, as `maskgan_jax.models.normalization.Normalization`."""
    if kind == "instance":
        # `InstanceNorm2d(channels, affine=True)`: the same parameters and values, but slower on CPUs.
        return nn.GroupNorm(channels, channels)
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.Identity()


def convolution(inputs: int, outputs: int, *, stride: int = 2, bias: bool = False) -> nn.Conv2d:
    """4x4 convolution, padding 1."""
    return nn.Conv2d(inputs, outputs, 4, stride, 1, bias=bias)


class UNetLevel(nn.Module):
    """One level of the U-Net with all those below it: halves the sides of what it is given, and doubles them again.

    `model` has the layers in pix2pix's order, so that their numbers are those of its state dicts.
    """

    def __init__(self, outputs: int, inputs: int, inner: int, below: UNetLevel | None, norm: str, dropout: float):
        """A level that takes `inputs` channels, hands `inner` down and gives `outputs` back, beside the skip connection."""
        super().__init__()
        rising = inner if below is None else 2 * inner
        self.model = nn.Sequential(
            nn.LeakyReLU(0.2, inplace=True),
            convolution(inputs, inner),
            *([] if below is None else [create_norm(norm, inner), below]),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(rising, outputs, 4, 2, 1, bias=False),
            create_norm(norm, outputs),
            *([nn.Dropout(dropout, inplace=True)] if dropout else []),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, inputs, H, W]` to `[B, inputs + outputs, H, W]`."""
        # The first layer changes x in place; the ReLU that the skip connection leads to makes the same of either.
        return torch.cat([x, self.model(x)], 1)


class UNetGenerator(nn.Module):
    """`maskgan_jax.models.unet.UNet`: masked faces `[B, 3, S, S]` to unmasked ones, both in [-1, 1]."""

    def __init__(self, size: int, width: int, norm: str, dropout: float, dropout_sides: Sequence[int], inpaints: bool = False):
        """A generator for faces of `size` px; the rest as in ours."""
        super().__init__()
        self.inpaints = inpaints
        channels_in = 4 if inpaints else 3
        depth = size.bit_length() - 1
        channels = [width * min(2**i, MOST_CHANNELS) for i in range(depth)]
        level = None
        for i in reversed(range(1, depth)):
            side = size >> i
            level = UNetLevel(
                channels[i - 1], channels[i - 1], channels[i], level, norm, dropout if side in dropout_sides else 0.0
            )
        layers = (
            convolution(channels_in, width),
            level,
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * width, 3, 4, 2, 1),
            nn.Tanh(),
        )
        self.model = nn.ModuleDict({"model": nn.Sequential(*layers)})

    def forward(self, masked: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """`[B, 3, S, S]`, and if it inpaints the regions `[B, 1, S, S]`, 1 = hidden, to the same, float32."""
        *layers, tanh = self.model["model"]
        x = torch.cat([torch.where(mask > 0, 0.0, masked), mask], 1) if self.inpaints else masked
        for layer in layers:
            x = layer(x)
        x = tanh(x.float())
        return torch.where(mask > 0, x, masked) if self.inpaints else x


class PatchGAN(nn.Module):
    """`maskgan_jax.models.patchgan.PatchGAN`: logits of overlapping patches."""

    def __init__(self, width: int, layers: int, norm: str):
        """A discriminator; the arguments are as in ours."""
        super().__init__()
        channels = [width * min(2**i, MOST_CHANNELS) for i in range(layers + 1)]
        sequence = [convolution(6, width, bias=True), nn.LeakyReLU(0.2, inplace=True)]
        for i in range(1, layers + 1):
            sequence += [
                convolution(channels[i - 1], channels[i], stride=1 if i == layers else 2),
                create_norm(norm, channels[i]),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.model = nn.Sequential(*sequence, convolution(channels[-1], 1, stride=1, bias=True))

    def forward(self, masked: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        """Logits `[B, h, w]`, float32, for pictures `[B, 3, S, S]` and their masked ones, both in [-1, 1]."""
        return self.model(torch.cat([masked, picture], 1))[:, 0].float()


class LandmarkNet(nn.Module):
    """`maskgan_jax.models.landmark_net.LandmarkNet`: 68 points of an aligned face."""

    def __init__(self, size: int, width: int):
        """A network for faces of `size` px; parameters are named as in ours."""
        super().__init__()
        self.size = size
        self.depth = size.bit_length() - 3
        channels = [3, *(width * min(2**i, MOST_CHANNELS) for i in range(self.depth))]
        for i in range(self.depth):
            self.add_module(f"conv_{i}", convolution(channels[i], channels[i + 1]))
            self.add_module(f"norm_{i}", nn.BatchNorm2d(channels[i + 1]))
        self.hidden = nn.Linear(16 * channels[-1], 8 * width)
        self.points = nn.Linear(8 * width, 2 * 68)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Landmarks `[B, 68, 2]`, (x, y) in pixels, of aligned faces `[B, 3, S, S]` in [-1, 1]."""
        x = picture
        for i in range(self.depth):
            x = functional.relu(self.get_submodule(f"norm_{i}")(self.get_submodule(f"conv_{i}")(x)), inplace=True)
        # Ours counts channels fastest.
        x = functional.relu(self.hidden(x.permute(0, 2, 3, 1).flatten(1)), inplace=True)
        return self.size * (0.5 + 0.25 * self.points(x).float().reshape(-1, 68, 2))


class SegmentationNet(nn.Module):
    """`maskgan_jax.models.segmentation_net.SegmentationNet`: logits of each pixel to be hidden."""

    def __init__(self, size: int, width: int):
        """A network for faces of `size` px; parameters are named as in ours."""
        super().__init__()
        self.depth = size.bit_length() - 3
        channels = [3, *(width * min(2**i, MOST_CHANNELS) for i in range(self.depth))]
        for i in range(self.depth):
            self.add_module(f"down_{i}", convolution(channels[i], channels[i + 1]))
            self.add_module(f"down_norm_{i}", nn.BatchNorm2d(channels[i + 1]))
        for i in range(1, self.depth):
            inner = channels[i + 1] * (1 if i == self.depth - 1 else 2)
            self.add_module(f"up_{i}", nn.ConvTranspose2d(inner, channels[i], 4, 2, 1, bias=False))
            self.add_module(f"up_norm_{i}", nn.BatchNorm2d(channels[i]))
        self.up_0 = nn.ConvTranspose2d(2 * channels[1], 1, 4, 2, 1)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Logits `[B, S, S]` for aligned faces `[B, 3, S, S]` in [-1, 1]."""
        x, skips = picture, []
        for i in range(self.depth):
            skips.append(x)
            x = functional.relu(self.get_submodule(f"down_norm_{i}")(self.get_submodule(f"down_{i}")(x)))
        for i in reversed(range(1, self.depth)):
            x = functional.relu(self.get_submodule(f"up_norm_{i}")(self.get_submodule(f"up_{i}")(x)))
            x = torch.cat([skips[i], x], 1)
        return self.up_0(x)[:, 0].float()


def create_generator(config: ConfigDict) -> UNetGenerator:
    """The generator that a config describes."""
    settings = config.generator
    return UNetGenerator(
        config.data.size, settings.width, settings.norm, settings.dropout, settings.dropout_sides, settings.inpaints
    )


def create_discriminator(config: ConfigDict) -> PatchGAN:
    """The discriminator that a config describes."""
    settings = config.discriminator
    return PatchGAN(settings.width, settings.layers, settings.norm)


def create_landmark_net(config: ConfigDict) -> LandmarkNet:
    """The landmark network that a config describes."""
    return LandmarkNet(config.data.size, config.landmark_net.width)


def create_segmentation_net(config: ConfigDict) -> SegmentationNet:
    """The segmentation network that a config describes."""
    return SegmentationNet(config.data.size, config.segmentation_net.width)

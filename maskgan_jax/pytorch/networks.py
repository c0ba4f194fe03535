"""The networks of maskgan_jax/models in PyTorch, to measure against and to exchange weights with.

The names of the U-Net's and the discriminator's parameters are those of `UnetGenerator` and `NLayerDiscriminator` in
junyanz/pytorch-CycleGAN-and-pix2pix, whose state dicts fit where they are of the same norm (convert.py tells what does not).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional

MOST_CHANNELS = 8  # Times the width.
SCALES = 4  # As in maskgan_jax/models/residual_unet.py, which would bring JAX into this process.


def create_norm(kind: str, channels: int) -> nn.Module:
    """'instance', 'batch' or 'none', with scale and shift, as `maskgan_jax.models.normalization.Normalization`."""
    if kind == "instance":
        # `InstanceNorm2d(channels, affine=True)`: the same, but slower on CPUs. In the memory format channels_last, GroupNorm's
        # variance loses digits where a channel's mean is many times its deviation.
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


class ResidualBlock(nn.Module):
    """`maskgan_jax.models.residual_unet.ResidualBlock`: norm, ReLU and convolution, twice, added to what came in."""

    def __init__(self, channels: int, norm: str, dilation: int = 1):
        """A block whose first convolution is dilated; parameters are named as in ours."""
        super().__init__()
        self.norm_0 = create_norm(norm, channels)
        self.conv_0 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm_1 = create_norm(norm, channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, H, W]` to the same."""
        y = self.conv_0(functional.relu(self.norm_0(x)))
        return x + self.conv_1(functional.relu(self.norm_1(y)))


class SelfAttention(nn.Module):
    """`maskgan_jax.models.residual_unet.SelfAttention`: every pixel looks at every other one, with four heads."""

    def __init__(self, channels: int, side: int, norm: str):
        """For feature maps of `side`; parameters are named as in ours."""
        super().__init__()
        self.norm = create_norm(norm, channels)
        self.position = nn.Parameter(torch.zeros(1, channels, side, side))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, H, W]` to the same."""
        pixels = (self.norm(x) + self.position).flatten(2).transpose(1, 2)
        # [B, H W, 3 C] to three of [B, 4, H W, C / 4].
        query, key, value = self.qkv(pixels).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value)
        return x + self.output(y.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(x.shape)


class Noise(nn.Module):
    """`maskgan_jax.models.residual_unet.Noise`: the same noise for every image, times a factor for each channel."""

    def __init__(self, channels: int, side: int):
        """For feature maps of `side`. The noise is JAX's, and comes with the state dict."""
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("noise", torch.zeros(1, 1, side, side))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, H, W]` to the same."""
        return x + (self.noise * self.strength).to(x.dtype)


class ResidualUNet(nn.Module):
    """`maskgan_jax.models.residual_unet.ResidualUNet`: draws inside the mask alone."""

    def __init__(self, size: int, width: int, blocks: int, norm: str):
        """A generator for faces of `size` px; the rest, and the names of the parameters, as in ours."""
        super().__init__()
        self.blocks = blocks
        channels = [width * min(2**i, MOST_CHANNELS) for i in range(SCALES + 1)]
        self.stem = nn.Conv2d(4, width, 3, padding=1)
        for i in range(1, SCALES + 1):
            self.add_module(f"down_norm_{i}", create_norm(norm, channels[i - 1]))
            self.add_module(f"down_{i}", convolution(channels[i - 1], channels[i]))
            if 1 < i < SCALES:
                self.add_module(f"down_block_{i}", ResidualBlock(channels[i], norm))
        for j in range(blocks):
            self.add_module(f"middle_block_{j}", ResidualBlock(channels[SCALES], norm, 1 + j % 2))
            if j % 2:
                self.add_module(f"attention_{j}", SelfAttention(channels[SCALES], size >> SCALES, norm))
        for i in reversed(range(SCALES)):
            self.add_module(f"up_norm_{i}", create_norm(norm, channels[i + 1]))
            self.add_module(f"up_{i}", nn.ConvTranspose2d(channels[i + 1], channels[i], 4, 2, 1, bias=False))
            self.add_module(f"join_{i}", nn.Conv2d(2 * channels[i], channels[i], 1))
            if i < SCALES - 1:
                self.add_module(f"noise_{i}", Noise(channels[i], size >> i))
            for j in range(self._blocks_up(i)):
                self.add_module(f"up_block_{i}_{j}", ResidualBlock(channels[i], norm, 1 + j % 2))
        self.output_norm = create_norm(norm, width)
        self.output = nn.Conv2d(width, 3, 3, padding=1)

    def _blocks_up(self, i: int) -> int:
        return self.blocks if i == SCALES - 1 else 1

    def forward(self, masked: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`[B, 3, S, S]` and the regions `[B, 1, S, S]`, 1 = hidden, to `[B, 3, S, S]`, float32."""
        layer = self.get_submodule
        x = self.stem(torch.cat([torch.where(mask > 0, 0.0, masked), mask], 1))
        skips = []
        for i in range(1, SCALES + 1):
            skips.append(x)
            x = layer(f"down_{i}")(functional.relu(layer(f"down_norm_{i}")(x)))
            if 1 < i < SCALES:
                x = layer(f"down_block_{i}")(x)
        for j in range(self.blocks):
            x = layer(f"middle_block_{j}")(x)
            if j % 2:
                x = layer(f"attention_{j}")(x)
        for i in reversed(range(SCALES)):
            x = layer(f"up_{i}")(functional.relu(layer(f"up_norm_{i}")(x)))
            x = layer(f"join_{i}")(torch.cat([x, skips.pop()], 1))
            if i < SCALES - 1:
                x = layer(f"noise_{i}")(x)
            for j in range(self._blocks_up(i)):
                x = layer(f"up_block_{i}_{j}")(x)
        x = self.output(functional.relu(self.output_norm(x)))
        return torch.where(mask > 0, torch.tanh(x.float()), masked)


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

    def forward(self, masked: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Logits `[B, h, w]`, float32, for images `[B, 3, S, S]` and their masked ones, both in [-1, 1]."""
        return self.model(torch.cat([masked, image], 1))[:, 0].float()


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

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Landmarks `[B, 68, 2]`, (x, y) in pixels, of aligned faces `[B, 3, S, S]` in [-1, 1]."""
        x = image
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

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits `[B, S, S]` for aligned faces `[B, 3, S, S]` in [-1, 1]."""
        x, skips = image, []
        for i in range(self.depth):
            skips.append(x)
            x = functional.relu(self.get_submodule(f"down_norm_{i}")(self.get_submodule(f"down_{i}")(x)))
        for i in reversed(range(1, self.depth)):
            x = functional.relu(self.get_submodule(f"up_norm_{i}")(self.get_submodule(f"up_{i}")(x)))
            x = torch.cat([skips[i], x], 1)
        return self.up_0(x)[:, 0].float()


def create_generator(config: ConfigDict) -> UNetGenerator | ResidualUNet:
    """The generator that a config describes."""
    settings = config.generator
    if settings.architecture == "residual":
        return ResidualUNet(config.data.size, settings.width, settings.blocks, settings.norm)
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

# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 with the pyramid neck of DFV (Yang et al., CVPR 2022), per plane.

Layers and channels are those of the publication; the code is independent of theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

LEAK = 0.1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalize_imagenet(images: Tensor) -> Tensor:
    """Normalise (..., 3, H, W) images in [0, 1] by the mean and deviation of ImageNet."""
    mean = images.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
    return (images - mean) / images.new_tensor(IMAGENET_STD).view(3, 1, 1)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def _conv_block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(inputs, outputs, kernel), nn.BatchNorm2d(outputs), nn.LeakyReLU(LEAK)
    )


class _BasicBlock(nn.Module):
    """Residual block of ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            _conv(outputs, outputs, 3),
            nn.BatchNorm2d(outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class ResNet18(nn.Module):
    """ResNet-18 without its classifier; taps at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.layers = nn.ModuleList(
            nn.Sequential(_BasicBlock(inputs, outputs, stride), _BasicBlock(outputs, outputs, 1))
            for inputs, outputs, stride in (
                (64, 64, 1),
                (64, 128, 2),
                (128, 256, 2),
                (256, 512, 2),
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return features of 64, 128, 256 and 512 channels, fine to coarse."""
        x = self.stem(x)
        taps = []
        for layer in self.layers:
            x = layer(x)
            taps.append(x)
        return taps


class PyramidPooling(nn.Module):
    """Pyramid pooling over the image (dims 2), or over planes and image (dims 3)."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        norm = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d
        self.dims = dims
        self.branches = nn.ModuleList(
            nn.Sequential(convolution(channels, channels, 1, bias=False), norm(channels))
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``."""
        size = x.shape[-self.dims :]
        pool = functional.avg_pool2d if self.dims == 2 else functional.avg_pool3d
        mode = 'bilinear' if self.dims == 2 else 'trilinear'
        total = x
        # Four bin counts, evenly spaced from 1 to half the smallest side.
        largest = max(min(size) // 2, 1)
        for step, branch in enumerate(self.branches):
            bins = 1 + (largest - 1) * step // 3
            kernel = [max(side // bins, 1) for side in size]
            pooled = branch(pool(x, kernel, kernel))
            if self.dims == 2:
                pooled = functional.leaky_relu(pooled, LEAK)
            total = total + 0.25 * functional.interpolate(
                pooled, size=size, mode=mode, align_corners=False
            )
        return torch.relu(0.5 * total)


class PyramidNeck(nn.Module):
    """Top-down path over the taps of ResNet-18."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = PyramidPooling(512, dims=2)
        self.up = nn.ModuleList(_conv_block(c, c // 2, 3) for c in (512, 256, 128))
        self.merge = nn.ModuleList(_conv_block(c, c // 2, 3) for c in (512, 256, 128))
        self.project = nn.ModuleList(_conv_block(c, c // 4, 1) for c in (512, 256, 128, 64))

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        """Return 16, 32, 64 and 128 channels at 1/4, 1/8, 1/16 and 1/32."""
        x = self.pyramid(taps[3])
        features = [x]
        for up, merge, lateral in zip(self.up, self.merge, taps[2::-1], strict=True):
            x = up(functional.interpolate(x, scale_factor=2.0, mode='nearest'))
            x = merge(torch.cat([x, lateral], dim=1))
            features.append(x)
        return [project(f) for project, f in zip(self.project, features, strict=True)][::-1]

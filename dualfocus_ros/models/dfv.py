# SPDX-License-Identifier: Apache-2.0
"""DFV, a published baseline for comparison with DualFocus.

Yang et al., "Deep Depth from Focus with Differential Focus Volume", CVPR 2022: a ResNet-18 trunk
with pyramid pooling, differential volumes at four scales and a coarse-to-fine 3-D decoder. Focus
distances enter only in the final expectation. Layers and channels are those of the publication, so
that size and speed are comparable; the code is independent of theirs.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
import torch.nn.functional as functional

from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.models.resnet import PyramidNeck, PyramidPooling, ResNet18
from dualfocus_ros.models.weights import open_weights, read_state, save_state

METADATA_KEY = 'dfv_config'


def _conv3d_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU()
    )


class _Residual3d(nn.Module):
    """Residual block of two 3x3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv3d_block(inputs, outputs),
            nn.Conv3d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm3d(outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.skip(x))


class _DecoderBlock(nn.Module):
    """Decoder level: residual blocks, optional pyramid pooling, classifier, upsampling."""

    def __init__(self, inputs: int, outputs: int, pyramid: bool, up: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(_Residual3d(inputs, outputs), _Residual3d(outputs, outputs))
        self.pyramid: nn.Module = PyramidPooling(outputs, dims=3) if pyramid else nn.Identity()
        self.classifier = nn.Sequential(
            _conv3d_block(outputs, outputs), nn.Conv3d(outputs, 1, 3, padding=1)
        )
        self.up = _conv3d_block(outputs, outputs // 2) if up else None

    def forward(self, x: Tensor, classify: bool) -> tuple[Tensor | None, Tensor | None]:
        x = self.pyramid(self.body(x))
        finer = None
        if self.up is not None:
            doubled = functional.interpolate(
                x, scale_factor=(1.0, 2.0, 2.0), mode='trilinear', align_corners=False
            )
            finer = self.up(doubled)
        return (self.classifier(x)[:, 0] if classify else None), finer


class DFV(nn.Module):
    """Differential focus volume network, for images with sides that are multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNet18()
        self.neck = PyramidNeck()
        self.decoder = nn.ModuleList(
            [
                _DecoderBlock(128, 128, pyramid=True, up=True),
                _DecoderBlock(128, 64, pyramid=True, up=True),
                _DecoderBlock(64, 32, pyramid=False, up=True),
                _DecoderBlock(32, 32, pyramid=False, up=False),
            ]
        )

    def forward(self, images: Tensor, focus: Tensor) -> list[Tensor]:
        """Return depth maps (B, H, W) in the unit of ``focus``, finest first.

        Evaluation mode computes only the finest.

        :param images: (B, N, 3, H, W), normalised by the ImageNet mean and deviation.
        :param focus: (B, N), in the order of the planes.
        :raises ValueError: if the sides are not multiples of 32.
        """
        probabilities = self.probabilities(images)
        return [(p * focus[..., None, None]).sum(dim=1) for p in probabilities]

    def probabilities(self, images: Tensor) -> list[Tensor]:
        """Return focus probabilities (B, N, H, W), finest first; see :meth:`forward`."""
        batch, planes, _, height, width = images.shape
        if height % 32 or width % 32:
            raise ValueError(f'sides must be multiples of 32, got {height}x{width}')
        features = self.neck(self.trunk(images.flatten(0, 1)))
        out: list[Tensor] = []
        finer: Tensor | None = None
        for block, level in zip(self.decoder, features[::-1], strict=True):
            volume = differential_focus_volume(level.unflatten(0, (batch, planes)).transpose(1, 2))
            if finer is not None:
                volume = torch.cat([finer, volume], dim=1)
            last = block.up is None
            cost, finer = block(volume, classify=self.training or last)
            if cost is not None:
                full = functional.interpolate(
                    cost, size=(height, width), mode='bilinear', align_corners=False
                )
                out.insert(0, torch.softmax(full, dim=1))
        return out


def differential_focus_volume(volume: Tensor) -> Tensor:
    """Return V_n - V_{n+1} along planes and the raw last plane, (B, C, N, h, w)."""
    return torch.cat([volume[:, :, :-1] - volume[:, :, 1:], volume[:, :, -1:]], dim=2)


def load_dfv(path: Path) -> DFV:
    """Load DFV weights in evaluation mode.

    :raises WeightsError: if the file is missing or damaged, has other tensors than DFV, or has
        values that are not finite.
    """
    if not path.is_file():
        raise WeightsError(
            f'no DFV weights at {path}: none are shipped; train them with dualfocus train '
            '--config dfv'
        )
    network = DFV()
    with open_weights(path) as file:
        network.load_state_dict(read_state(path, file, network.state_dict()))
    return network.eval()


def save_dfv(path: Path, network: DFV) -> None:
    """Write DFV weights for :func:`load_dfv`."""
    save_state(path, network, {METADATA_KEY: json.dumps({'order': 'far to near'})}, half=False)

# SPDX-License-Identifier: Apache-2.0
"""Configurations of the DualFocus network."""

from __future__ import annotations

from dataclasses import dataclass

TRUNKS = ('light', 'resnet18')
UNITS = ('dioptres', 'metres')
MAX_SMOOTHING = 0.7  # pixels; more would need a kernel larger than 3x3


@dataclass(frozen=True)
class DualFocusConfig:
    """Architecture of the network. Tuples of widths go from fine to coarse: 1/4, 1/8, ...

    Field names are part of the weights format.

    :param trunk: ``light`` (ours) or ``resnet18`` with the pyramid neck of DFV, per plane.
    :param encoder: channels of the light trunk at 1/2, 1/4, 1/8, ...
    :param encoder_blocks: residual blocks of the light trunk at each level from 1/4 on.
    :param volume: channels per plane of the focal volume at each level.
    :param decoder: channels of the decoder at each level.
    :param blocks: residual blocks per decoder level.
    :param full_3d: 3x3x3 convolutions in the decoder, instead of factorised ones with the mean
        over the stack as context.
    :param surfaces: C2, implicit surfaces per plane; 0 disables the projection and z*.
    :param fine: channels of a further decoder level at 1/2, for dense stacks whose blur is smaller
        than a cell at 1/4; 0 disables it.
    :param keys: learned full-resolution features per plane; 0 ends decoding at 1/4.
    :param window: subtract a parabola about the mean plane from the logits, with a curvature
        per pixel, so that far tails of p cannot rise again.
    :param smoothing: standard deviation of the initial smoothing of images in pixels, 0 to 0.7. It
        removes detail by in-camera sharpening and aliasing, which is rare in training images, and
        keeps the peaks of focus.
    :param measures: hand-crafted focus measures as further input channels.
    :param conditioning: position of each plane in the sweep as further input.
    :param unit: unit of the expectation over the planes, ``dioptres`` or ``metres``.
    :param learned_sigma: predict sigma; otherwise it is the standard deviation of p.
    :raises ValueError: for inconsistent widths or an unknown choice.
    """

    trunk: str = 'light'
    encoder: tuple[int, ...] = (24, 40, 64, 96)
    encoder_blocks: tuple[int, ...] = (1, 1, 2)
    volume: tuple[int, ...] = (16, 24, 32)
    decoder: tuple[int, ...] = (24, 32, 48)
    blocks: int = 1
    full_3d: bool = False
    surfaces: int = 8
    fine: int = 0
    keys: int = 6
    window: bool = True
    smoothing: float = 0.0
    measures: bool = True
    conditioning: bool = True
    unit: str = 'dioptres'
    learned_sigma: bool = True

    def __post_init__(self) -> None:
        levels = len(self.volume)
        if self.trunk not in TRUNKS:
            raise ValueError(f"trunk must be one of {', '.join(TRUNKS)}, got '{self.trunk}'")
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, got '{self.unit}'")
        if levels < 2 or len(self.decoder) != levels:
            raise ValueError(
                f'volume and decoder must have the same number of levels, at least 2; got '
                f'{levels} and {len(self.decoder)}'
            )
        if self.trunk == 'light':
            if len(self.encoder) != levels + 1 or len(self.encoder_blocks) != levels:
                raise ValueError(
                    f'{levels} levels need {levels + 1} encoder widths and {levels} '
                    f'encoder_blocks, got {len(self.encoder)} and {len(self.encoder_blocks)}'
                )
        elif levels != 4 or self.fine or self.keys or self.measures:
            raise ValueError(
                'the resnet18 trunk has 4 levels: give 4 widths, fine=0, keys=0, measures=False'
            )
        if not 0.0 <= self.smoothing <= MAX_SMOOTHING:
            raise ValueError(
                f'smoothing must be from 0 to {MAX_SMOOTHING} pixels, got {self.smoothing}'
            )
        if self.learned_sigma and not self.measures:
            raise ValueError('learned_sigma needs the focus measures: set measures=True')

    @property
    def stride(self) -> int:
        """Divisor of the padded sides of images."""
        return 2 ** (len(self.volume) + 1)


CONFIGURATIONS = {
    'dualfocus': DualFocusConfig(
        encoder=(40, 72, 128, 224, 352),
        encoder_blocks=(1, 2, 2, 2),
        volume=(24, 32, 48, 64),
        decoder=(40, 56, 80, 128),
        blocks=2,
        surfaces=16,
        fine=12,
        keys=8,
    ),
    'dualfocus-lite': DualFocusConfig(fine=8),
    # The publication as far as it states details: metres, no conditioning, no measures, decoding
    # to 1/4. Our choices: the trunk of DFV, and decoder widths for the stated 27 M parameters.
    'dualfocus-paper': DualFocusConfig(
        trunk='resnet18',
        encoder=(),
        encoder_blocks=(),
        volume=(16, 32, 64, 128),
        decoder=(50, 100, 200, 200),
        blocks=2,
        full_3d=True,
        surfaces=16,
        keys=0,
        window=False,
        measures=False,
        conditioning=False,
        unit='metres',
        learned_sigma=False,
    ),
}

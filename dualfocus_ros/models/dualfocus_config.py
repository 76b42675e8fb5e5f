# SPDX-License-Identifier: Apache-2.0
"""The configurations of the one implementation of DualFocus, and the switches of its ablations."""

from __future__ import annotations

from dataclasses import dataclass

TRUNKS = ('light', 'resnet18')
UNITS = ('dioptres', 'metres')
MAX_SMOOTHING = 0.7  # px; more would take a kernel of more than 3 x 3


@dataclass(frozen=True)
class DualFocusConfig:
    """Shape of the network. Tuples of widths go from fine to coarse, by halves from 1/4 on.

    :param trunk: ``light`` (ours) or ``resnet18`` with DFV's pyramid neck, per plane.
    :param encoder: channels of the light trunk at 1/2, 1/4, 1/8, ...
    :param encoder_blocks: residual blocks of the light trunk at each level from 1/4 on.
    :param volume: channels per plane of the focal volume at each level.
    :param decoder: channels of the decoder at each level.
    :param blocks: residual blocks per decoder level.
    :param full_3d: whole 3x3x3 convolutions in the decoder rather than factorised ones that also
        see the mean over the stack.
    :param surfaces: C2, implicit surfaces per plane; 0 leaves the projection and z* out.
    :param fine: channels of a last decoder level at 1/2, which mixes planes and pixels where the
        spot of a dense stack is smaller than a cell of the level at 1/4; 0 leaves it out.
    :param keys: learned full-resolution features per plane; 0 ends decoding at 1/4.
    :param window: whether coarse logits are bent down away from their mean (a parabola whose
        curvature each pixel chooses), so that far tails of p cannot rise again.
    :param smoothing: standard deviation in pixels, 0 to 0.7, of what images are smoothed by first.
        Cameras sharpen their images and lenses outresolve pixels; such detail is in few training
        images, and the peaks of focus stay where they are without it.
    :param measures: whether hand-made focus measures enter beside the image.
    :param conditioning: whether the network is told where each plane lies in the sweep.
    :param unit: what the expectation over the planes is taken in.
    :param learned_sigma: predict sigma; otherwise it is the standard deviation of p.
    :raises ValueError: for widths that do not fit together or an unknown choice.
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
                f'volume and decoder need the same number of levels, 2 or more; got {levels} '
                f'and {len(self.decoder)}'
            )
        if self.trunk == 'light':
            if len(self.encoder) != levels + 1 or len(self.encoder_blocks) != levels:
                raise ValueError(
                    f'{levels} levels need {levels + 1} encoder widths and {levels} numbers of '
                    f'blocks, got {len(self.encoder)} and {len(self.encoder_blocks)}'
                )
        elif levels != 4 or self.fine or self.keys or self.measures:
            raise ValueError(
                'the resnet18 trunk has 4 levels and neither a fine one nor keys nor measures'
            )
        if not 0.0 <= self.smoothing <= MAX_SMOOTHING:
            raise ValueError(
                f'smoothing must be from 0 to {MAX_SMOOTHING} pixels, got {self.smoothing}'
            )
        if self.learned_sigma and not self.measures:
            raise ValueError('a learned sigma needs the focus measures')

    @property
    def stride(self) -> int:
        """Sides of the images are padded to multiples of this."""
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
    # As published, as far as the publication says: metres, no conditioning, no measures, decoding
    # that ends at 1/4. The trunk is DFV's; the decoder is widened to reach the stated 27 M.
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

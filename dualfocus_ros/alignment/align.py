# SPDX-License-Identifier: Apache-2.0
"""Alignment of the planes of a focal stack from their images.

A lens that focuses also magnifies by a few per cent (focus breathing) and changes its radial
distortion a little; a hand or a robot displaces the planes by pixels. Planes are registered
pairwise between neighbours in focus, which look most similar, and chained to the reference plane.

=============== ============================================== ================================
model           motion                                         use
=============== ============================================== ================================
``shift_scale`` shift and scale, on images of 320 px           calibrated camera, real time
``homography``  homography and radial distortion, on full size  hand-held photographs, data sets
=============== ============================================== ================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np

from dualfocus_ros.alignment.alignment_result import Alignment
from dualfocus_ros.alignment.homography import align_homography
from dualfocus_ros.alignment.registration import covers
from dualfocus_ros.alignment.shift_scale import PairCache, RegistrationImage, align_shift_scale
from dualfocus_ros.camera.thin_lens import Lens

MotionModel = Literal['shift_scale', 'homography']


def align(
    images: Sequence[np.ndarray] | Sequence[RegistrationImage],
    focus_dioptres: Sequence[float] | np.ndarray,
    *,
    model: MotionModel,
    reference: int | None = None,
    lens: Lens | None = None,
    pairs: PairCache | None = None,
    progress: Callable[[], object] = lambda: None,
) -> Alignment:
    """Register all planes of a stack to its reference plane.

    :param images: N images of one size, (H, W) or (H, W, 3) uint8; for ``shift_scale`` also
        images that were prepared for registration.
    :param focus_dioptres: (N,) focus in 1/m; decides which planes are neighbours.
    :param reference: index of the plane to align to; by default the one focused nearest, which
        has the narrowest field of view.
    :param lens: lens whose breathing v(s) / v(s_ref) is the initial scale (``homography``).
    :param pairs: cache of pair registrations for stacks that share planes (``shift_scale``).
    :param progress: called once per registered plane (``homography``).
    :raises ValueError: if the images differ in size or their number differs from that of the
        focus distances.
    """
    focus = np.asarray(focus_dioptres, dtype=np.float64)
    if len(images) != len(focus):
        raise ValueError(
            f'{len(images)} images but {len(focus)} focus distances: give one for each image'
        )
    first = int(np.argmax(focus)) if reference is None else reference
    arrays = [image for image in images if isinstance(image, np.ndarray)]
    sizes = {image.shape[:2] for image in arrays}
    if len(sizes) > 1:
        raise ValueError(f'planes of one stack differ in size: {sorted(sizes)}')
    if model == 'homography':
        return align_homography(arrays, focus, first, lens, progress)
    prepared = [image for image in images if isinstance(image, RegistrationImage)]
    prepared += [RegistrationImage.from_plane(image) for image in arrays]
    return align_shift_scale(prepared, focus, first, PairCache() if pairs is None else pairs)


def warp_planes(
    images: Sequence[np.ndarray], alignment: Alignment
) -> tuple[list[np.ndarray], np.ndarray]:
    """Resample the planes to the reference plane, their edges repeated beyond them.

    :returns: the images, and a bool mask (H, W) of the pixels that every plane covers.
    """
    height, width = images[0].shape[:2]
    covered = np.ones((height, width), dtype=bool)
    warped = []
    for index, image in enumerate(images):
        if alignment.is_identity(index):
            warped.append(image)
            continue
        at = alignment.sample_positions(index, height, width)
        warped.append(cv2.remap(image, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        covered &= covers(at[..., 0], width) & covers(at[..., 1], height)
    return warped, covered

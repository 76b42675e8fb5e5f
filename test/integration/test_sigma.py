# SPDX-License-Identifier: Apache-2.0
"""What sigma claims, against the truth of scenes that no training has seen (seeds 0 to 99)."""

import numpy as np
import pytest

pytest.importorskip('torch')

from dualfocus_ros.pipeline.estimator import DepthEstimator
from dualfocus_ros.pipeline.result import Outputs
from dualfocus_ros.pipeline.settings import PipelineSettings
from rendered_scene import lens_for, rendered_stack

WIDTH, HEIGHT, PLANES = 320, 240, 8
LENS = lens_for(WIDTH)
# v(q) / v(0) = 1 / (1 - F q) as a series: the breathing without the lens, whose optics would hold
# sigma up.
SERIES = tuple(LENS.focal_length**power for power in range(1, 5))
SCENES = [(scene, seed) for scene in ('table', 'floor', 'corridor') for seed in (11, 12, 13)]


@pytest.fixture(scope='module')
def normalised_errors():
    """Return |error| / sigma of each scene, sigma being what the network says."""
    settings = PipelineSettings(breathing='polynomial', breathing_coefficients=SERIES)
    estimator = DepthEstimator('auto', 'cpu', threads=1, settings=settings)
    found = []
    for scene, seed in SCENES:
        stack, truth = rendered_stack(scene, seed, WIDTH, HEIGHT, PLANES)
        result = estimator.estimate(stack, Outputs(sigma=True))
        low, high = 1.0 / stack.focus_dioptres.max(), 1.0 / stack.focus_dioptres.min()
        # Beyond the planes no sweep tells how far something is.
        known = np.isfinite(result.depth) & (truth >= low) & (truth <= high)
        found.append(np.abs(result.depth - truth)[known] / result.sigma[known])
    return found


def test_about_68_per_cent_of_the_errors_lie_within_one_sigma(normalised_errors):
    shares = [float((errors < 1.0).mean()) for errors in normalised_errors]
    print('within one sigma:', ', '.join(
        f'{scene} {seed}: {share:.3f}' for (scene, seed), share in zip(SCENES, shares)
    ))
    assert np.mean(shares) == pytest.approx(0.68, abs=0.05)


def test_errors_beyond_three_sigma_are_rare(normalised_errors):
    """Not as rare as 0.3 %: at depth edges the errors have heavier tails than a normal law."""
    shares = [float((errors > 3.0).mean()) for errors in normalised_errors]
    print(f'beyond three sigma: {np.mean(shares):.3f} on average, {max(shares):.3f} at most')
    assert np.mean(shares) < 0.10

# SPDX-License-Identifier: Apache-2.0
"""Cache of one result per image."""

import numpy as np
import pytest

from dualfocus_ros.inference.plane_cache import PlaneCache

KEY = 'geometry', 1.0


@pytest.fixture
def images():
    return [np.zeros(10, np.uint8) for _ in range(4)]


def result(size=70):
    return np.zeros(size, np.uint8)


def test_limit_counts_results_and_images(images):
    cache = PlaneCache(limit=200)
    assert cache.add(images[0], KEY, result())
    assert cache.add(images[1], KEY, result())
    assert not cache.add(images[2], KEY, result())
    assert cache.nbytes == 160 and cache.get(images[2], KEY) is None
    assert cache.add(images[1], KEY, result(110))
    assert cache.nbytes == 200 and len(cache) == 2


def test_result_needs_the_same_image_and_the_exact_key(images):
    cache = PlaneCache(limit=1000)
    stored = result()
    cache.add(images[0], KEY, stored)
    assert cache.get(images[0], ('geometry', 1.0)) is stored
    assert cache.get(images[0], ('geometry', np.nextafter(1.0, 2.0))) is None
    assert cache.get(images[0].copy(), KEY) is None


def test_new_content_of_the_same_array_needs_a_new_result(images):
    cache = PlaneCache(limit=1000)
    cache.add(images[0], KEY, result())
    images[0] += 1
    assert cache.get(images[0], KEY) is None


def test_result_for_another_key_replaces_the_first(images):
    cache = PlaneCache(limit=1000)
    first = cache.get_or_compute(images[0], 'a', result)
    assert cache.get_or_compute(images[0], 'a', result) is first
    second = cache.get_or_compute(images[0], 'b', result)
    assert second is not first
    assert cache.get(images[0], 'a') is None and cache.values() == [second]


def test_results_beyond_the_limit_are_still_returned(images):
    cache = PlaneCache(limit=50)
    assert cache.get_or_compute(images[0], KEY, result).nbytes == 70
    assert len(cache) == 0


def test_keeps_planes_of_the_next_stack_only(images):
    cache = PlaneCache(limit=1000)
    old, current, upcoming, _ = images
    for image in (old, current, upcoming):
        cache.add(image, KEY, result())
    cache.retire([current])
    assert cache.get(upcoming, KEY) is not None
    assert cache.get(old, KEY) is None and cache.get(current, KEY) is None


def test_keeps_planes_of_overlapping_stacks(images):
    cache = PlaneCache(limit=1000)
    for stack in (images[:3], images[1:]):
        for image in stack:
            cache.get_or_compute(image, KEY, result)
        cache.retire(stack)
    assert len(cache) == 3
    assert all(cache.get(image, KEY) is not None for image in images[1:])
    cache.clear()
    assert len(cache) == cache.nbytes == 0

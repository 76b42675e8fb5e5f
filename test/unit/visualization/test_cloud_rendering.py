# SPDX-License-Identifier: Apache-2.0
"""Rendering of point clouds."""

import numpy as np
import torch

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.inference.point_cloud import back_project
from dualfocus_ros.visualization.cloud_rendering import render_oblique_view


def test_points_are_drawn_in_their_colours_on_white():
    camera = PinholeCamera(80, 60, 80.0, 80.0, 39.5, 29.5)
    points = back_project(torch.full((60, 80), 1.5), camera)[..., :3].numpy()
    view = render_oblique_view(points, np.full((60, 80), 40, np.uint8))
    assert view.shape == (60, 80, 3)
    painted = (view == 40).all(axis=-1)
    assert 0.1 < painted.mean() < 0.95
    assert (view[~painted] == 255).all()
    blank = render_oblique_view(np.full((60, 80, 3), np.nan), np.zeros((60, 80), np.uint8))
    assert (blank == 255).all()

# SPDX-License-Identifier: Apache-2.0
"""Report and figure of a benchmark."""

import numpy as np

from benchmark_fakes import make_report
from dualfocus_ros.benchmark.benchmark_report import as_markdown, scaling_figure


def test_reports_a_busy_machine():
    assert '**The machine was busy**' in as_markdown(make_report(busy=True, load_before=1.9))


def test_figure_is_an_image():
    picture = scaling_figure(make_report())
    assert picture.shape[0] >= 480 and picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20

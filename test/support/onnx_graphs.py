# SPDX-License-Identifier: Apache-2.0
"""Small network and graph size for tests of the ONNX export."""

from importlib.util import find_spec

import pytest

from dualfocus_ros.models import DualFocusConfig, onnx_export

PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
needs_packages = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason=f'needs {", ".join(PACKAGES)}'
)

# All parts of the shipped configurations, with small widths; the size needs padding.
LIGHT = DualFocusConfig(
    encoder=(8, 8, 8),
    encoder_blocks=(1, 1),
    volume=(6, 6),
    decoder=(8, 8),
    surfaces=2,
    keys=2,
    smoothing=0.5,
)
SIZE = onnx_export.ExportShape(planes=3, height=26, width=45)

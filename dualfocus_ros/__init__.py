# SPDX-License-Identifier: Apache-2.0
"""Metric depth from a camera whose focus can be driven (DualFocus, arXiv 2509.21992).

>>> import dualfocus_ros as df
>>> depth = df.estimate_depth(images, focus_distances=[0.35, 0.5, 0.9]).depth

The names of ``__all__`` are the public Python API; they are imported on first use, so that
``import dualfocus_ros`` loads neither torch nor ROS.
"""

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualfocus_ros.api import estimate_depth
    from dualfocus_ros.camera.pinhole import PinholeCamera
    from dualfocus_ros.camera.thin_lens import Lens
    from dualfocus_ros.exceptions import DataError, DeviceError, DualFocusError, WeightsError
    from dualfocus_ros.focal_stack import FocalStack, Plane
    from dualfocus_ros.inference.estimator import DepthEstimator
    from dualfocus_ros.inference.result import DepthResult, OutputRequest
    from dualfocus_ros.inference.settings import EstimatorSettings
    from dualfocus_ros.io.stack_files import load_stack

# colcon installs the generated messages, dualfocus_ros.msg, into another folder of this package.
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'

__all__ = [
    'DataError',
    'DepthEstimator',
    'DepthResult',
    'DeviceError',
    'DualFocusError',
    'EstimatorSettings',
    'FocalStack',
    'Lens',
    'OutputRequest',
    'PinholeCamera',
    'Plane',
    'WeightsError',
    'estimate_depth',
    'load_stack',
]

_MODULES = {
    'DataError': 'exceptions',
    'DepthEstimator': 'inference.estimator',
    'DepthResult': 'inference.result',
    'DeviceError': 'exceptions',
    'DualFocusError': 'exceptions',
    'EstimatorSettings': 'inference.settings',
    'FocalStack': 'focal_stack',
    'Lens': 'camera.thin_lens',
    'OutputRequest': 'inference.result',
    'PinholeCamera': 'camera.pinhole',
    'Plane': 'focal_stack',
    'WeightsError': 'exceptions',
    'estimate_depth': 'api',
    'load_stack': 'io.stack_files',
}

# Hidden from type checkers, for which every attribute would exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name on first use."""
        if name not in _MODULES:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        value = getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, '__version__'])

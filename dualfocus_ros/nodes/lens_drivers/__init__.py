# SPDX-License-Identifier: Apache-2.0
"""Camera drivers that move a lens, one module each; without ROS, so that launch files import it.

A new driver takes a module in this folder whose class is decorated with ``@register``, a parameter
file ``config/NAME.yaml`` and a page in ``docs/drivers``. Importing this package registers all.
"""

from importlib import import_module
from pkgutil import iter_modules

from dualfocus_ros.nodes.lens_drivers.driver_profile import PROFILES, DriverProfile, make_profile

for _module in iter_modules(__path__):
    import_module(f'{__name__}.{_module.name}')

# A lens node that obeys focus_command, instead of a camera driver.
TOPIC = 'topic'
DRIVERS = (TOPIC, *sorted(PROFILES))

__all__ = ['DRIVERS', 'PROFILES', 'TOPIC', 'DriverProfile', 'make_profile']

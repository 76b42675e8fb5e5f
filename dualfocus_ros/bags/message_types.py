# SPDX-License-Identifier: Apache-2.0
"""Message types of bags: definitions without ROS, and classes of rclpy."""

from __future__ import annotations

from functools import cache
from importlib import import_module
import os
from pathlib import Path
import re
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

PACKAGE = 'dualfocus_ros'
_TYPE = re.compile(r'(?P<package>[a-z]\w*)/(?P<kind>msg|srv|action)/(?P<name>[A-Z]\w*)', re.ASCII)
OWN_MESSAGES = ('FocalStack', 'FocusCommand', 'FocusState', 'StackInfo')


def message_folder() -> Path:
    """Return the folder of this package's ``.msg`` files: source tree or installed share.

    :raises FileNotFoundError: without either.
    """
    here = Path(__file__).resolve()
    candidates = [parent / 'msg' for parent in here.parents]
    candidates += [parent / 'share' / PACKAGE / 'msg' for parent in here.parents]
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    candidates += [Path(prefix) / 'share' / PACKAGE / 'msg' for prefix in prefixes if prefix]
    for folder in candidates:
        if all((folder / f'{name}.msg').is_file() for name in OWN_MESSAGES):
            return folder
    raise FileNotFoundError(
        f'the message definitions of {PACKAGE} ({", ".join(OWN_MESSAGES)}.msg) are neither in '
        f'the source tree around {here.parent} nor in an installed share/{PACKAGE}/msg: '
        'build the package, or install it again'
    )


@cache
def typestore() -> Typestore:
    """Return the types of ROS 2 Jazzy and this package's messages.

    The standard messages used here are equal from Humble to Lyrical.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for name in OWN_MESSAGES:
        text = (message_folder() / f'{name}.msg').read_text('utf-8')
        types.update(get_types_from_msg(text, f'{PACKAGE}/msg/{name}'))
    store.register(types)
    return store


def ros2_type_name(message_type: str) -> str:
    """Return ``sensor_msgs/msg/Image`` for it and for the ROS 1 name ``sensor_msgs/Image``."""
    package, _, rest = message_type.partition('/')
    return f'{package}/msg/{rest}' if rest and '/' not in rest else message_type


def import_message_class(message_type: str) -> Any:
    """Return rclpy's class of a type such as ``sensor_msgs/msg/Image``.

    The names of bags and other nodes are untrusted: only packages that the ament index lists as
    interface packages are imported.

    :raises ImportError: without such a class.
    """
    from ament_index_python.resources import has_resource

    found = _TYPE.fullmatch(message_type)
    if found is None or not has_resource('rosidl_interfaces', found['package']):
        raise ImportError(f'no package with interfaces is known for {message_type!r}')
    try:
        return getattr(import_module(f'{found["package"]}.{found["kind"]}'), found['name'])
    except AttributeError as error:
        raise ImportError(f'there is no message {message_type}') from error


def type_name(message_class: type) -> str:
    """Return the ROS name of a message class of rclpy or rosbags, as ``sensor_msgs/msg/Image``."""
    known = getattr(message_class, '__msgtype__', None)
    if known is not None:
        return str(known)
    # rclpy: sensor_msgs.msg._image.Image
    package, kind = message_class.__module__.split('.')[:2]
    return f'{package}/{kind}/{message_class.__name__}'

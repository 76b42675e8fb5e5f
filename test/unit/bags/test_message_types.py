# SPDX-License-Identifier: Apache-2.0
"""Message types without ROS."""

from dualfocus_ros.bags.message_types import message_folder, type_name, typestore


def test_own_messages_are_registered_with_their_constants():
    store = typestore()
    state = store.types['dualfocus_ros/msg/FocusState']
    assert (state.UNKNOWN, state.SETTLED, state.MOVING, state.FAULT) == (0, 1, 2, 3)
    for name in ('FocusCommand', 'FocalStack', 'StackInfo'):
        assert f'dualfocus_ros/msg/{name}' in store.types
    assert (message_folder() / 'FocusState.msg').is_file()
    assert type_name(state) == 'dualfocus_ros/msg/FocusState'

# SPDX-License-Identifier: Apache-2.0
"""Selection of the topics to record."""

import pytest

from dualfocus_ros.bags.recorder import TopicSelection

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
STATE = 'dualfocus_ros/msg/FocusState'


@pytest.mark.parametrize(
    ('selection', 'topic', 'message_type', 'included'),
    [
        (TopicSelection(), '/eye/image_raw', IMAGE, True),
        (TopicSelection(), '/eye/image_raw', STATE, False),
        (TopicSelection(), '/eye/image_raw/compressed', COMPRESSED, False),
        (TopicSelection(transport='compressed'), '/eye/image_raw/compressed', COMPRESSED, True),
        (TopicSelection(transport='compressed'), '/eye/image_raw', IMAGE, False),
        (TopicSelection(transport='both'), '/eye/image_raw', IMAGE, True),
        (TopicSelection(prefix='/eye'), '/eye/focus_state', STATE, True),
        (TopicSelection(prefix='/eye'), '/rear/focus_state', STATE, False),
        (TopicSelection(), '/depth/image_rect', IMAGE, False),
        (TopicSelection(outputs=True), '/depth/image_rect', IMAGE, True),
        (TopicSelection(outputs=True, prefix='/eye'), '/depth/image_rect', IMAGE, True),
        (TopicSelection(outputs=True), '/diagnostics', 'any', True),
        (TopicSelection(), '/other', IMAGE, False),
        (TopicSelection(topics=frozenset({'/other'})), '/other', IMAGE, True),
        (TopicSelection(topics=frozenset({'/other'})), '/eye/image_raw', IMAGE, False),
    ],
)
def test_selects_topics_by_name_and_type(selection, topic, message_type, included):
    assert selection.includes(topic, message_type) is included

# SPDX-License-Identifier: Apache-2.0
"""Input `stack`: whole focal stacks in one message."""

from __future__ import annotations

from functools import partial

from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.msg import FocalStack as FocalStackMsg
from dualfocus_ros.nodes.inputs.stack_source import FixedFocusSource
from dualfocus_ros.nodes.messages.image_decoding import blank_image, decode_image, is_zero_copy
from dualfocus_ros.nodes.messages.input_messages import focal_stack_from_msg
from dualfocus_ros.sweep.stage_counter import Stage
from dualfocus_ros.topics import FOCAL_STACK


class StackInput(FixedFocusSource):
    """Whole stacks, one per ``FocalStack`` message."""

    max_pending = 4

    def start(self) -> None:
        super().start()
        self.images.append(self._subscribe(FocalStackMsg, FOCAL_STACK.name, self._on_stack))

    def tick(self, now_ns: int) -> None:
        """Do nothing: no stack is assembled here."""

    def _on_stack(self, msg: FocalStackMsg) -> None:
        self._stage_counter.count(Stage.RECEIVED)
        self.arrivals.record()
        settings = self._settings()
        self._convert(
            not self._enabled or all(is_zero_copy(image) for image in msg.images),
            partial(
                focal_stack_from_msg,
                msg,
                settings.max_pixels,
                settings.rectify == 'auto',
                self._calibration,
                decode_image if self._enabled else blank_image,
            ),
            self._on_converted_stack,
        )

    def _on_converted_stack(self, stack: FocalStack) -> None:
        for stage in (Stage.VALID, Stage.MATCHED, Stage.STACKED):
            self._stage_counter.count(stage)
        self._emit([stack])

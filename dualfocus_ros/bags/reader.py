# SPDX-License-Identifier: Apache-2.0
"""Reading of rosbag2 bags, with or without ROS."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import ConnectionExtRosbag2, Qos
from rosbags.typesys.store import Typestore

from dualfocus_ros.bags.message_types import typestore


class BagError(Exception):
    """The bag cannot be read; the text says why and what to do."""


@dataclass(frozen=True)
class BagTopic:
    """What a bag holds of one topic."""

    name: str
    message_type: str
    count: int
    qos: tuple[Qos, ...]


@dataclass(frozen=True, eq=False)
class BagMessage:
    """One message of a bag.

    :param stamp_ns: when it was recorded (the bag's clock, not the header's), in nanoseconds.
    :param data: as serialised (CDR), ready to be published or copied.
    """

    topic: str
    message_type: str
    stamp_ns: int
    data: bytes
    _types: Typestore

    @cached_property
    def message(self) -> Any:
        """The message as an object; arrays of numbers are NumPy arrays."""
        return self._types.deserialize_cdr(self.data, self.message_type)


class BagReader:
    """Iterates over the messages of a bag; use it as a context manager.

    :param path: the bag's folder, or a single ``.mcap`` or ``.db3`` file.
    :raises BagError: if it is not a readable bag.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise BagError(f'{self.path} does not exist: give the folder of a bag')
        try:
            self._reader = AnyReader([self.path], default_typestore=typestore())
        except (AnyReaderError, FileNotFoundError) as error:
            raise BagError(f'{self.path} is not a bag that can be read: {error}') from None

    def __enter__(self) -> BagReader:
        try:
            self._reader.open()
        except (AnyReaderError, FileNotFoundError) as error:
            raise BagError(f'{self.path} cannot be read: {error}') from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()

    @property
    def types(self) -> Typestore:
        """The types of the bag's messages."""
        return self._reader.typestore

    @property
    def topics(self) -> dict[str, BagTopic]:
        """The bag's topics by name."""
        found = {}
        for connection in self._reader.connections:
            extra = connection.ext
            qos = extra.offered_qos_profiles if isinstance(extra, ConnectionExtRosbag2) else []
            found[connection.topic] = BagTopic(
                connection.topic, connection.msgtype, connection.msgcount, tuple(qos)
            )
        return found

    @property
    def start_ns(self) -> int:
        """Stamp of the first message."""
        return self._reader.start_time

    @property
    def end_ns(self) -> int:
        """Stamp of the last message."""
        return self._reader.end_time - 1  # the reader counts one past the last

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Yield the messages of the topics (by default all) in the order of their stamps.

        :raises BagError: for a topic that the bag does not have.
        """
        connections = self._reader.connections
        if topics is not None:
            missing = set(topics) - {connection.topic for connection in connections}
            if missing:
                raise BagError(
                    f'{self.path} has no topic {", ".join(sorted(missing))}; it has '
                    f'{", ".join(sorted(self.topics)) or "none"}'
                )
            connections = [c for c in connections if c.topic in topics]
            if not connections:
                return
        for connection, stamp_ns, data in self._reader.messages(connections):
            yield BagMessage(
                connection.topic, connection.msgtype, stamp_ns, bytes(data), self.types
            )

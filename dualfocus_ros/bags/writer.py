# SPDX-License-Identifier: Apache-2.0
"""Writing of rosbag2 bags. Without ROS, except for messages of rclpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter

from dualfocus_ros.bags.message_types import type_name, typestore
from dualfocus_ros.bags.reader import BagMessage, BagTopic

# The newest metadata format that `ros2 bag` reads from Humble to Lyrical.
BAG_VERSION = 8
STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
INFINITE = QosTime(2147483647, 4294967295)
RELIABLE = Qos(
    *(QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE),
    *(INFINITE, INFINITE, QosLiveliness.AUTOMATIC, INFINITE, False),
)


class BagWriter:
    """Write messages into a new bag; a context manager.

    Not thread-safe. After an exception the file keeps the messages so far, without metadata.

    :param path: folder to create for the bag.
    :param storage: ``mcap`` or ``sqlite3``.
    :param compress: compress the MCAP chunks with zstd.
    :raises FileExistsError: if the path exists.
    """

    def __init__(self, path: Path | str, *, storage: str = 'mcap', compress: bool = False) -> None:
        self.path = Path(path)
        if storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(STORAGES)}, got '{storage}'")
        if self.path.exists():
            raise FileExistsError(f'{self.path} exists already: remove it or choose another name')
        if compress and storage != 'mcap':
            raise ValueError('compression of chunks needs the storage mcap')
        self._writer = Writer(self.path, version=BAG_VERSION, storage_plugin=STORAGES[storage])
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._connections: dict[str, Connection] = {}
        self.counts: dict[str, int] = {}
        self.bytes_written = 0
        self._unflushed = 0

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def add_topic(self, topic: str, message_type: str, qos: Sequence[Qos] = (RELIABLE,)) -> None:
        """Declare a topic; players offer the recorded QoS.

        :raises ValueError: for a topic of another type, or an unknown type.
        """
        known = self._connections.get(topic)
        if known is not None:
            if known.msgtype != message_type:
                raise ValueError(f'{topic} is a topic of {known.msgtype}, got {message_type}')
            return
        if message_type not in typestore().fielddefs:
            raise ValueError(f'the message type {message_type} of {topic} is unknown')
        self._connections[topic] = self._writer.add_connection(
            topic, message_type, typestore=typestore(), offered_qos_profiles=list(qos)
        )
        self.counts[topic] = 0

    def write(
        self, topic: str, message_type: str, stamp_ns: int, data: bytes | memoryview
    ) -> None:
        """Append a serialised message (CDR), as a raw subscription delivers it.

        :param stamp_ns: time of recording in nanoseconds, by which players order messages.
        """
        self.add_topic(topic, message_type)
        self._writer.write(self._connections[topic], stamp_ns, data)
        self.counts[topic] += 1
        self.bytes_written += len(data)
        self._unflushed += 1

    def flush(self) -> None:
        """Hand all messages so far to the operating system; MCAP only.

        A crash of this process then loses only later messages.
        """
        storage: Any = self._writer.storage
        if self._unflushed and isinstance(storage, McapWriter):
            if storage.chunk.msgs:
                storage.close_chunk()
            storage.bio.flush()
            self._unflushed = 0

    def copy(self, message: BagMessage, topic: BagTopic) -> None:
        """Append a message of another bag unchanged, with the QoS of its topic."""
        self.add_topic(topic.name, topic.message_type, topic.qos or (RELIABLE,))
        self.write(topic.name, topic.message_type, message.stamp_ns, message.data)

    def write_message(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Append a message object of rclpy or of rosbags."""
        name, types = type_name(type(message)), typestore()
        if not hasattr(message, '__msgtype__'):
            from rclpy.serialization import serialize_message

            # Serialise again below: rmw leaves padding bytes uninitialised.
            message = types.deserialize_cdr(serialize_message(message), name)
        self.write(topic, name, stamp_ns, types.serialize_cdr(message, name))


def to_bag_qos(profile: Any) -> Qos:
    """Return an rclpy ``QoSProfile`` in the form of a bag."""
    return Qos(
        QosHistory(int(profile.history)),
        int(profile.depth),
        QosReliability(int(profile.reliability)),
        QosDurability(int(profile.durability)),
        _time(profile.deadline),
        _time(profile.lifespan),
        QosLiveliness(int(profile.liveliness)),
        _time(profile.liveliness_lease_duration),
        bool(profile.avoid_ros_namespace_conventions),
    )


def _time(duration: Any) -> QosTime:
    seconds, nanoseconds = divmod(int(duration.nanoseconds), 1_000_000_000)
    # Fast DDS reports infinity as the largest signed number of nanoseconds, rmw as INFINITE.
    return INFINITE if seconds >= INFINITE.sec else QosTime(seconds, nanoseconds)

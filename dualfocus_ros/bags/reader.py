# SPDX-License-Identifier: Apache-2.0
"""Reading of rosbag2 bags, complete or truncated by a crash. Without ROS."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
import heapq
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinitionFormat, Qos
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dualfocus_ros.bags.bag_files import decompress_file, decompress_message, find_bag_files
from dualfocus_ros.bags.message_types import ros2_type_name, typestore
from dualfocus_ros.bags.truncated_mcap import TruncatedMcapReader
from dualfocus_ros.exceptions import BagError, one_line

__all__ = ['BagError', 'BagMessage', 'BagReader', 'BagTopic']


@dataclass(frozen=True)
class BagTopic:
    """Topic of a bag; ``qos`` are the recorded offers."""

    name: str
    message_type: str
    count: int
    qos: tuple[Qos, ...]


@dataclass(frozen=True, eq=False)
class BagMessage:
    """One message of a bag.

    :param stamp_ns: time of recording in nanoseconds, not the stamp of the header.
    :param data: serialised message (CDR).
    """

    topic: str
    message_type: str
    stamp_ns: int
    data: bytes
    _types: Typestore

    @cached_property
    def message(self) -> Any:
        """The deserialised message; arrays of numbers are NumPy arrays.

        :raises BagError: for data that are not a message of this type.
        """
        try:
            return self._types.deserialize_cdr(self.data, self.message_type)
        except Exception as error:  # damaged data raise exceptions of any kind
            raise BagError(
                f'{len(self.data)} bytes on {self.topic} at {self.stamp_ns * 1e-9:.3f} s are not '
                f'a {self.message_type}: {type(error).__name__}'
            ) from error


class BagReader:
    """Read the messages of a bag; a context manager.

    Supports folders with splits, even if some are missing; single files; zstd by chunk, message
    or file; truncated MCAP files.

    :param path: folder of the bag, or a single ``.mcap`` or ``.db3`` file.
    :raises BagError: for anything that is not a readable bag.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._paths, self.problems = find_bag_files(self.path)
        self._files: list[Any] = []
        self._types: Typestore | None = None
        self._stack = ExitStack()

    def __enter__(self) -> BagReader:
        try:
            folder = Path(self._stack.enter_context(TemporaryDirectory()))
            for path in self._paths:
                self._open(decompress_file(path, folder), path)
            self._types = self._collect_types()
        except BaseException as error:
            self._stack.close()
            if isinstance(error, OSError):
                raise BagError(f'{self.path} cannot be read: {error}') from None
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._files.clear()

    @property
    def types(self) -> Typestore:
        """Message types of the bag."""
        if self._types is None:
            raise BagError(f'{self.path} is not open')
        return self._types

    @property
    def topics(self) -> dict[str, BagTopic]:
        """Topics of the bag by name."""
        found: dict[str, BagTopic] = {}
        for connection in self._connections:
            known = found.get(connection.topic)
            extra = connection.ext
            qos = extra.offered_qos_profiles if isinstance(extra, ConnectionExtRosbag2) else []
            found[connection.topic] = BagTopic(
                connection.topic,
                ros2_type_name(connection.msgtype),
                connection.msgcount + (known.count if known else 0),
                known.qos if known and known.qos else tuple(qos),
            )
        return found

    @property
    def start_ns(self) -> int:
        """Stamp of the first message in nanoseconds; 0 for an empty bag."""
        return min((f.start_time for f in self._files if f.start_time < f.end_time), default=0)

    @property
    def end_ns(self) -> int:
        """Stamp of the last message in nanoseconds; 0 for an empty bag."""
        # The end time of the readers is exclusive.
        return max((f.end_time - 1 for f in self._files if f.start_time < f.end_time), default=0)

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Yield the messages of the topics (by default all) in the order of their stamps.

        :param start_ns: skip messages recorded earlier.
        :raises BagError: for a topic that is not in the bag, or unreadable data.
        """
        if topics is not None:
            missing = set(topics) - {connection.topic for connection in self._connections}
            if missing:
                raise BagError(
                    f'{self.path} has no topic {", ".join(sorted(missing))}; it has '
                    f'{", ".join(sorted(self.topics)) or "none"}'
                )
        streams = [
            file.messages(chosen, start_ns)
            for file in self._files
            if (chosen := [c for c in file.connections if topics is None or c.topic in topics])
        ]
        try:
            for connection, stamp_ns, data in heapq.merge(*streams, key=lambda item: item[1]):
                yield BagMessage(
                    connection.topic,
                    ros2_type_name(connection.msgtype),
                    stamp_ns,
                    decompress_message(bytes(data)),
                    self.types,
                )
        except (GeneratorExit, KeyboardInterrupt, OSError, BagError):
            raise
        except Exception as error:  # damaged files raise exceptions of any kind
            raise BagError(f'{self.path} is damaged: {one_line(error)}') from error

    @property
    def _connections(self) -> list[Connection]:
        return [connection for file in self._files for connection in file.connections]

    def _open(self, path: Path, named: Path) -> None:
        """Open one file; a truncated MCAP file is read up to its end."""
        file: Any
        try:
            file = Reader(path)
            file.open()
        except Exception as error:  # damaged files raise exceptions of any kind
            text = one_line(error)
            if path.suffix != '.mcap' or path.stat().st_size == 0:
                raise BagError(f'{named} cannot be read: {text}') from None
            file = TruncatedMcapReader(path)
            file.open()
            self.problems.append(
                f'{named} is truncated or damaged ({text}): reading the part before'
            )
        self._stack.callback(file.close)
        self._files.append(file)

    def _collect_types(self) -> Typestore:
        """Return the types defined in the bag, and known ones for those without definition."""
        types: dict[str, Any] = {}
        for connection in self._connections:
            definition = connection.msgdef
            name = ros2_type_name(connection.msgtype)
            if name in types or definition.format == MessageDefinitionFormat.NONE:
                continue
            try:
                if definition.format == MessageDefinitionFormat.MSG:
                    types.update(get_types_from_msg(definition.data, name))
                else:
                    types.update(_from_idl(definition.data))
            except Exception as error:  # the type may be unused
                self.problems.append(
                    f'the definition of {name} in {self.path} cannot be parsed '
                    f'({type(error).__name__})'
                )
        store = get_typestore(Stores.EMPTY)
        store.register({**typestore().fielddefs, **types})
        return store


def _from_idl(text: str) -> dict[str, Any]:
    """Return the types of one IDL file, or of several as MCAP concatenates them."""
    separator = '=' * 80 + '\n'
    if not text.startswith(f'{separator}IDL: '):
        return dict(get_types_from_idl(text))
    types: dict[str, Any] = {}
    for part in text.split(separator)[1:]:
        types.update(get_types_from_idl(part.split('\n', 1)[1]))
    return types

# SPDX-License-Identifier: Apache-2.0
"""MCAP files that end in the middle, as after a crash.

The stream reader of the package mcap does not detect short reads: it would yield the truncated
last message as if it were complete. This reader stops before it. Without the index at the end of
the file, records are scanned from the start: once on opening, again for the messages.

Format: https://mcap.dev/spec
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
import struct
from typing import BinaryIO

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)

from dualfocus_ros.bags.bag_files import lz4_decompress, zstd
from dualfocus_ros.exceptions import BagError

MAGIC = b'\x89MCAP0\r\n'
SCHEMA, CHANNEL, MESSAGE, CHUNK = 3, 4, 5, 6
_FORMATS = {
    'ros2msg': MessageDefinitionFormat.MSG,
    'ros2idl': MessageDefinitionFormat.IDL,
    'omgidl': MessageDefinitionFormat.IDL,
}


class TruncatedMcapReader:
    """Read a truncated file, with the interface of a rosbags storage reader.

    :raises BagError: if the file is not MCAP.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.start_time = 2**63 - 1
        self.end_time = 0
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Open the file and scan its connections and time span."""
        self._file = self.path.open('rb')
        if self._file.read(len(MAGIC)) != MAGIC:
            self.close()
            raise BagError(f'{self.path} is not an MCAP file: its magic number is wrong')
        unknown = '', MessageDefinition(MessageDefinitionFormat.NONE, '')
        schemas: dict[int, tuple[str, MessageDefinition]] = {}
        channels: dict[int, Connection] = {}
        counts: Counter[int] = Counter()
        for code, body in self._records():
            if code == SCHEMA:
                (number,) = struct.unpack_from('<H', body)
                name, encoding, text = _strings(body, 2, 3)
                kind = _FORMATS.get(encoding, MessageDefinitionFormat.NONE)
                schemas[number] = name, MessageDefinition(kind, text)
            elif code == CHANNEL:
                number, schema = struct.unpack_from('<HH', body)
                topic, encoding = _strings(body, 4, 2)
                name, definition = schemas.get(schema, unknown)
                extra = ConnectionExtRosbag2(encoding, [])
                connection = Connection(number, topic, name, definition, '', 0, extra, self)
                channels.setdefault(number, connection)
            elif code == MESSAGE:
                number, stamp = struct.unpack_from('<HxxxxQ', body)
                counts[number] += 1
                self.start_time = min(self.start_time, stamp)
                self.end_time = max(self.end_time, stamp + 1)
        self.connections = [c._replace(msgcount=counts[n]) for n, c in channels.items()]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def messages(
        self, connections: Collection[Connection], start_ns: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, stamp and data in file order."""
        chosen = {connection.id: connection for connection in connections}
        for code, body in self._records():
            if code == MESSAGE:
                number, stamp = struct.unpack_from('<HxxxxQ', body)
                if number in chosen and (start_ns is None or stamp >= start_ns):
                    yield chosen[number], stamp, body[22:]

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Yield complete records, including those in chunks."""
        assert self._file is not None
        size = self.path.stat().st_size
        at = len(MAGIC)
        while at + 9 <= size:
            # Interleaved iterators share the file position.
            self._file.seek(at)
            code, length = struct.unpack('<BQ', self._file.read(9))
            at += 9 + length
            if code == CHUNK:
                yield from _chunk_records(self._file.read(min(length, size)))
            elif at <= size:
                yield code, self._file.read(length)


def _chunk_records(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the records of a chunk; of a truncated one only if it is not compressed."""
    if len(body) < 32:
        return
    (name_length,) = struct.unpack_from('<I', body, 28)
    compression = body[32 : 32 + name_length]
    start = 32 + name_length
    if len(body) < start + 8:
        return
    (length,) = struct.unpack_from('<Q', body, start)
    data = body[start + 8 : start + 8 + length]
    if compression:
        try:
            data = zstd.decompress(data) if compression == b'zstd' else lz4_decompress(data)
        except (zstd.ZstdError, EOFError, RuntimeError):
            return
    at = 0
    while at + 9 <= len(data):
        code, length = struct.unpack_from('<BQ', data, at)
        at += 9
        if at + length > len(data):
            return
        yield code, data[at : at + length]
        at += length


def _strings(body: bytes, at: int, count: int) -> list[str]:
    """Return strings with a prefix of their length, from an offset on."""
    texts = []
    for _ in range(count):
        (length,) = struct.unpack_from('<I', body, at)
        texts.append(body[at + 4 : at + 4 + length].decode('utf-8', 'replace'))
        at += 4 + length
    return texts

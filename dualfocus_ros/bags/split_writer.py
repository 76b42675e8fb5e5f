# SPDX-License-Identifier: Apache-2.0
"""Bags of several files: a new one after so many bytes or so much time, as of ``ros2 bag``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import shutil
from types import TracebackType
from typing import Any

from rosbags.interfaces import Qos
import yaml

from dualfocus_ros.bags.writer import RELIABLE, BagWriter
from dualfocus_ros.io.atomic_files import write_text

_INFORMATION = 'rosbag2_bagfile_information'
_SPAN = ('starting_time', 'nanoseconds_since_epoch')


class SplitBagWriter:
    """Streams messages into ``NAME/NAME_0.mcap``, ``NAME_1.mcap``, …; use as a context manager.

    What was written before a crash stays readable: every file up to its last chunk, and
    :meth:`flush` ends a chunk. The metadata come at the end.

    :param path: folder to create for the bag.
    :param max_bytes: begin a new file when the messages in one have so many bytes; 0 never.
    :param max_ns: begin a new file when one spans so many nanoseconds; 0 never.
    :param compress: compress the chunks with zstd.
    :raises FileExistsError: if something is at the path already.
    """

    def __init__(
        self, path: Path | str, *, max_bytes: int = 0, max_ns: int = 0, compress: bool = False
    ) -> None:
        self.path = Path(path)
        if self.path.exists():
            raise FileExistsError(f'{self.path} exists already: remove it or choose another name')
        self.counts: dict[str, int] = {}
        self.bytes_written = 0
        self._max_bytes = max_bytes
        self._max_ns = max_ns
        self._compress = compress
        self._topics: dict[str, tuple[str, tuple[Qos, ...]]] = {}
        self._part: BagWriter | None = None
        self._parts: list[Path] = []
        self._bytes = 0
        self._first_ns: int | None = None
        self._metadata: list[dict[str, Any]] = []

    def __enter__(self) -> SplitBagWriter:
        self.path.mkdir(parents=True)
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            if self._part is not None:
                self._part.__exit__(kind, error, trace)
            return
        self._end()
        write_text(
            self.path / 'metadata.yaml',
            yaml.safe_dump({_INFORMATION: _merged(self._metadata)}, sort_keys=False),
        )

    @property
    def files(self) -> int:
        """How many files there are by now."""
        return len(self._parts)

    def add_topic(self, topic: str, message_type: str, qos: Sequence[Qos] = (RELIABLE,)) -> None:
        """Declare a topic, as :meth:`BagWriter.add_topic`."""
        assert self._part is not None
        self._part.add_topic(topic, message_type, qos)
        self._topics.setdefault(topic, (message_type, tuple(qos)))
        self.counts.setdefault(topic, 0)

    def write(
        self, topic: str, message_type: str, stamp_ns: int, data: bytes | memoryview
    ) -> None:
        """Append a serialised (CDR) message, as :meth:`BagWriter.write`."""
        if self._first_ns is None:
            self._first_ns = stamp_ns
        full = 0 < self._max_bytes <= self._bytes
        if full or 0 < self._max_ns <= stamp_ns - self._first_ns:
            self._end()
            self._begin()
            self._first_ns = stamp_ns
        if topic not in self._topics:
            self.add_topic(topic, message_type)
        assert self._part is not None
        self._part.write(topic, message_type, stamp_ns, data)
        self.counts[topic] += 1
        self._bytes += len(data)
        self.bytes_written += len(data)

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        if self._part is not None:
            self._part.flush()

    def _begin(self) -> None:
        folder = self.path / f'{self.path.name}_{len(self._parts)}'
        self._part = BagWriter(folder, compress=self._compress)
        self._part.__enter__()
        # A folder of its own is what the writer makes; its file belongs beside the others, and
        # at once, to be found after a crash.
        file = folder / f'{folder.name}.mcap'
        file.rename(self.path / file.name)
        self._parts.append(folder)
        self._bytes, self._first_ns = 0, None
        for topic, (message_type, qos) in self._topics.items():
            self._part.add_topic(topic, message_type, qos)

    def _end(self) -> None:
        if self._part is None:
            return
        self._part.__exit__(None, None, None)
        self._part = None
        folder = self._parts[-1]
        metadata = yaml.safe_load((folder / 'metadata.yaml').read_text('utf-8'))
        self._metadata.append(metadata[_INFORMATION])
        shutil.rmtree(folder)


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metadata of a bag from those of its files."""
    whole = dict(parts[-1])  # which knows every topic
    topics = [dict(entry, message_count=0) for entry in whole['topics_with_message_count']]
    counts: dict[str, int] = {}
    for part in parts:
        for entry in part['topics_with_message_count']:
            name = entry['topic_metadata']['name']
            counts[name] = counts.get(name, 0) + entry['message_count']
    for entry in topics:
        entry['message_count'] = counts[entry['topic_metadata']['name']]
    filled = [part for part in parts if part['message_count']]
    start = min((part[_SPAN[0]][_SPAN[1]] for part in filled), default=0)
    end = max(
        (part[_SPAN[0]][_SPAN[1]] + part['duration']['nanoseconds'] for part in filled),
        default=start,
    )
    whole.update(
        {
            'relative_file_paths': [
                name for part in parts for name in part['relative_file_paths']
            ],
            'files': [file for part in parts for file in part['files']],
            _SPAN[0]: {_SPAN[1]: start},
            'duration': {'nanoseconds': end - start},
            'message_count': sum(part['message_count'] for part in parts),
            'topics_with_message_count': topics,
        }
    )
    return whole

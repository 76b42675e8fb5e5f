# SPDX-License-Identifier: Apache-2.0
"""Messages of one topic that wait for a message of another topic."""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar('Item')


class StampedBuffer(Generic[Item]):
    """Items of one topic, keyed by stamp in nanoseconds.

    :ivar newest: newest stamp ever added; None: none since the last clear.
    """

    def __init__(self) -> None:
        self.items: dict[int, Item] = {}
        self.newest: int | None = None
        # Clock time at which each item was first seen by `overdue`.
        self._first_seen: dict[int, int] = {}

    def add(self, stamp: int, item: Item) -> None:
        """Add an item; an item of equal stamp is replaced."""
        self.items[stamp] = item
        self.newest = stamp if self.newest is None else max(self.newest, stamp)

    def remove_after(self, limit: int) -> None:
        """Remove items newer than ``limit``, after the clock was set back."""
        for stamp in [stamp for stamp in self.items if stamp > limit]:
            del self.items[stamp]
        if self.newest is not None:
            self.newest = min(self.newest, limit)

    def remove_before(self, limit: int) -> None:
        """Remove items older than ``limit``."""
        for stamp in [stamp for stamp in self.items if stamp < limit]:
            del self.items[stamp]

    def has_passed(self, stamp: int, window: int = 0) -> bool:
        """Return whether an item more than ``window`` newer than ``stamp`` was added."""
        return self.newest is not None and self.newest - window > stamp

    def overdue(self, now: int, window: int) -> set[int]:
        """Return the stamps of items that waited longer than ``window`` by the clock."""
        if any(now < since for since in self._first_seen.values()):
            self._first_seen.clear()  # the clock was set back
        self._first_seen = {stamp: self._first_seen.get(stamp, now) for stamp in self.items}
        return {stamp for stamp, since in self._first_seen.items() if now - since > window}

    def clear(self) -> None:
        """Remove all items."""
        self.items.clear()
        self.newest = None
        self._first_seen.clear()

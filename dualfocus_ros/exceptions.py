# SPDX-License-Identifier: Apache-2.0
"""Exceptions that this package raises on purpose; each message says what to do."""

from __future__ import annotations

from collections.abc import Mapping
import re


class DualFocusError(Exception):
    """Base of all exceptions below."""


class DataError(DualFocusError, ValueError):
    """Missing or malformed image, focal stack or data set."""


class WeightsError(DualFocusError, ValueError):
    """Missing, damaged or incompatible model weights."""


class DeviceError(DualFocusError, ValueError):
    """Unknown or unavailable compute device or precision."""


class ExportError(DualFocusError, ValueError):
    """Network that cannot be exported to ONNX."""


class CalibrationError(DualFocusError, ValueError):
    """Recordings that do not determine a calibration."""


class BagError(DualFocusError):
    """Missing, damaged or unsupported bag."""


class ConfigError(DualFocusError, ValueError):
    """Invalid setting of a configuration; the message begins with the name of the field."""


class SettingsError(DualFocusError, ValueError):
    """Invalid or contradictory settings.

    :param message: text that names settings by their Python fields.
    :param fields: the fields that it names.
    """

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields

    def with_names(self, names: Mapping[str, str]) -> str:
        """Return the message with other names of the fields, for users of another interface."""
        words = '|'.join(re.escape(field) for field in self.fields)
        return re.sub(rf'\b(?:{words})\b', lambda m: names.get(m[0], m[0]), str(self))


class CommandError(DualFocusError):
    """Failure of a command; exit status 1."""


class UsageError(CommandError):
    """Invalid command line; exit status 2."""


def one_line(error: BaseException) -> str:
    """Return the message of an exception in one line, or its class if it has none."""
    return ' '.join(str(error).split()) or type(error).__name__

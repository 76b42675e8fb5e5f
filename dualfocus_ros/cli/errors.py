# SPDX-License-Identifier: Apache-2.0
"""Failures that the command line reports in one line."""


class CommandError(Exception):
    """Something went wrong that the user can do something about; exit status 1."""


class UsageError(CommandError):
    """The command was given something that it cannot make sense of; exit status 2."""

# SPDX-License-Identifier: Apache-2.0
"""Entry point for tools that expect a setup.py; pyproject.toml has the metadata."""

from setuptools import setup

setup()

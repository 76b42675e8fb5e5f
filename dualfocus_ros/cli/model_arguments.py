# SPDX-License-Identifier: Apache-2.0
"""Options for the network and its device: ``--model`` and ``--device``."""

from __future__ import annotations

import argparse


def add_model_argument(parser: argparse._ActionsContainer) -> None:
    """Declare ``--model``."""
    parser.add_argument('--model', default='auto', help='a shipped name or a .safetensors file')


def add_device_argument(parser: argparse._ActionsContainer) -> None:
    """Declare ``--device``."""
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')

# SPDX-License-Identifier: Apache-2.0
"""Parameters of the nodes: specifications, tables, declaration, checks."""

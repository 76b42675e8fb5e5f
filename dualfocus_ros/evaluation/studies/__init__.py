# SPDX-License-Identifier: Apache-2.0
"""Studies: one question each, answered by many evaluations, with a table and a figure."""

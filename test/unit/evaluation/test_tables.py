# SPDX-License-Identifier: Apache-2.0
"""Markdown tables and JSON."""

import json

from dualfocus_ros.evaluation.tables import markdown_table, to_json


def test_omits_columns_without_values():
    lines = markdown_table(
        [{'method': 'a', 'x': 0.5}, {'method': 'b', 't': 'w'}],
        [('x', 'X', -1), ('y', 'Y', 2), ('t', 'T', 0)],
    )
    assert lines[:2] == ['| method | X | T |', '| --- | ---: | --- |']
    assert lines[2:] == ['| a | 50.0 |  |', '| b |  | w |']


def test_json_has_null_for_nonfinite_numbers():
    assert json.loads(to_json({'a': [float('nan'), 1.5], 'b': {'c': float('inf')}})) == {
        'a': [None, 1.5],
        'b': {'c': None},
    }

# SPDX-License-Identifier: Apache-2.0
"""Study of the number of planes."""

import pytest

from study_files import run_study_command

SMALL = 'shapes:3,count=2,size=64'


def test_measures_every_method_at_every_size(tmp_path):
    found, markdown = run_study_command(
        tmp_path,
        'stack-size',
        '--data',
        SMALL,
        '--sizes',
        '9',
        '2',
        '4',
        '--methods',
        'auto',
        'sml',
        'range-only',
    )
    assert [(r['planes'], r['method']) for r in found['rows']] == [
        (n, m) for n in (2, 4, 9) for m in (*found['methods'],)
    ]
    assert '| method | N = 2 | N = 4 | N = 9 |' in markdown
    network, _, control = (
        [row['mae_position'] for row in found['rows'][start::3]] for start in range(3)
    )
    assert network[-1] < network[0] and network[-1] < 0.5 * control[0]
    assert control == pytest.approx([control[0]] * 3)

# SPDX-License-Identifier: Apache-2.0
"""Study of asymmetric defocus."""

from study_files import run_study_command

SMALL = 'shapes:3,count=2,size=64'


def test_aberrations_change_images_and_errors_by_side(tmp_path):
    found, markdown = run_study_command(
        tmp_path,
        'asymmetry',
        '--data',
        SMALL,
        '--limit',
        '1',
        '--sweeps',
        'spherical',
        'tilt',
        '--methods',
        'sml',
        'range-only',
        '--planes',
        '5',
    )
    rows = {(r['method'], r['sweep'], r['value']): r for r in found['rows']}
    assert rows['sml', 'spherical', 0.0]['near'] == rows['sml', 'tilt', 0.0]['near']
    assert rows['sml', 'spherical', 0.8]['near'] != rows['sml', 'spherical', -0.8]['near']
    assert rows['range-only', 'spherical', 0.8]['far'] == rows['range-only', 'tilt', 0.1]['far']
    assert '## Tilt c2' in markdown and 'Cat' not in markdown.split('## ', 1)[1]
    assert '| range-only | 1.00 | 1.00 |' in markdown

# SPDX-License-Identifier: Apache-2.0
"""``dualfocus train`` from nothing to weights that load, and again from where it was."""

from dualfocus_ros.cli.main import main
from dualfocus_ros.network import load_model


def test_trains_resumes_and_writes_weights_that_load(tmp_path):
    small = ['--stacks', '2', '--held-out', '2', '--batch', '1', '--crop', '64', '--workers', '1']
    assert main(['train', '-o', str(tmp_path), '--steps', '2', *small]) == 0
    first = load_model(str(tmp_path / 'dualfocus-lite.safetensors'))
    assert main(['train', '-o', str(tmp_path), '--steps', '3', *small]) == 0
    second = load_model(str(tmp_path / 'dualfocus-lite.safetensors'))
    assert first.sha256 != second.sha256
    assert (tmp_path / 'manifest.json').is_file()


def test_a_folder_without_images_is_refused(tmp_path):
    status = main(['train', '-o', str(tmp_path / 'run'), '--textures', str(tmp_path), '--stacks',
                   '2', '--workers', '1'])  # fmt: skip
    assert status == 1

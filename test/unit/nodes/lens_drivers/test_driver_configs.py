# SPDX-License-Identifier: Apache-2.0
"""Parameter file of each driver: names, values, and one settling model for both nodes."""

from pathlib import Path
import re

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from dualfocus_ros.camera.lens_state import LensState, PlaneTarget
from dualfocus_ros.nodes.lens_drivers import DRIVERS, make_profile
from dualfocus_ros.nodes.parameters import depth_parameters, derived_settings, sweep_parameters
from dualfocus_ros.nodes.parameters.derived_settings import settling_model
from dualfocus_ros.sweep.focus_sources import CommandFocusSource

ROOT = Path(__file__).parents[4]
SPECS = {spec.name: spec for spec in sweep_parameters.PARAMETERS}
SECTIONS = {'/**', '/**/focus_sweep', '/**/dualfocus'}


def content(driver):
    """Return text and sections of a driver's file."""
    text = (ROOT / 'config' / f'{driver}.yaml').read_text('utf-8')
    parsed = yaml.safe_load(text)
    return text, {name: section['ros__parameters'] for name, section in parsed.items()}


def sweep_values(driver, example=True):
    """Return all parameters of the sweep node, with the example of a calibration."""
    text, sections = content(driver)
    values = {name: spec.default for name, spec in SPECS.items()}
    values |= sections['/**'] | sections['/**/focus_sweep']
    if example:
        for name, numbers in re.findall(r'# (calibration\.\w+): (.+)', text):
            values[name] = yaml.safe_load(numbers)
    return {name: SPECS[name].coerce(value) for name, value in values.items()}


def depth_settings(driver):
    """Return the settings of the depth node."""
    _, sections = content(driver)
    values = sections['/**'] | sections['/**/dualfocus']
    return depth_parameters.settings_from(values)


@pytest.mark.parametrize('driver', DRIVERS)
def test_names_and_values_are_allowed(driver):
    _, sections = content(driver)
    assert sections.keys() == SECTIONS
    assert sections['/**'].keys() <= SPECS.keys() & depth_parameters.SPECS.keys()
    values = sweep_values(driver)
    assert values['driver'] == driver
    assert derived_settings.validate(depth_settings(driver)) == []


@pytest.mark.parametrize('driver', DRIVERS)
def test_file_links_the_page_of_its_driver(driver):
    text, _ = content(driver)
    assert f'docs/drivers/{"oak" if driver == "depthai" else driver}.md' in text or (
        driver == 'topic' and 'docs/drivers/liquid_lens.md' in text
    )
    for page in re.findall(r'docs/\S+\.md', text):
        assert (ROOT / page).exists(), page


@pytest.mark.parametrize('driver', DRIVERS)
def test_planes_are_in_the_range_of_the_driver(driver):
    values = sweep_values(driver)
    settings = sweep_parameters.sweep_settings(values, make_profile(values))
    assert len(settings.planes) == values['count']
    assert settings.planes[0] == pytest.approx(values['near_dioptres'], abs=0.05)
    assert settings.planes[-1] == pytest.approx(values['far_dioptres'], abs=0.05)


@pytest.mark.parametrize('driver', ['v4l2', 'depthai'])
def test_file_without_calibration_is_refused_with_advice(driver):
    with pytest.raises(ValueError, match='dualfocus calibrate focus'):
        make_profile(sweep_values(driver, example=False))


@pytest.mark.parametrize('driver', DRIVERS)
def test_model_time_covers_the_settling_of_an_image(driver):
    """At 30 Hz and every phase of the camera, by the settling model of the depth node."""
    depth, values = depth_settings(driver), sweep_values(driver)
    assert depth.focus_source == ('camera_ros' if driver == 'camera_ros' else 'command')
    period = 1e9 / 30.0
    for phase in (0.02, 0.3, 0.6, 0.98):
        focus = CommandFocusSource(settling_model(depth))
        focus.add_command(PlaneTarget(1.0, stamp_ns=10**9))
        stamps = [round(10**9 + (n + phase) * period) for n in range(60)]
        settled = [s for s in stamps if focus.reading(s).state == LensState.SETTLED]
        assert (settled[0] - 10**9) * 1e-9 < values['model_time']

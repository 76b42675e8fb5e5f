# SPDX-License-Identifier: Apache-2.0
"""Sweep page in a browser: drawing and controls."""

import math
import re

import cv2
import numpy as np
import pytest

from browser import find_browser, running_browser
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.visualization import colour_scales
from dualfocus_ros.visualization.sweep_encoding import encode_scales, encode_sweep
from dualfocus_ros.visualization.sweep_page import build_page
from dualfocus_ros.visualization.sweep_view import SweepView

pytestmark = pytest.mark.skipif(find_browser() is None, reason='needs Chromium')

WIDTH, HEIGHT = 160, 120
FOCUS = np.array([2.4, 1.6, 0.9, 0.4])
CAMERA = PinholeCamera(WIDTH, HEIGHT, 150.0, 150.0, 79.5, 59.5)


def ramp_sweep(number: int) -> SweepView:
    """Return a slope from near (left) to far with blocks of invalid depth and tinted planes."""
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    depth = (0.5 + 0.01 * u + 0.1 * number).astype(np.float32)
    depth[:20, :20] = np.nan
    depth[:20, 20:40] = -np.inf
    depth[:20, 40:60] = np.inf
    scores = -4.0 * (FOCUS[:, None, None] - 1.0 / (0.5 + 0.01 * u + 0.1 * number)) ** 2
    p = np.exp(scores) / np.exp(scores).sum(axis=0)
    scene = (128 + 70 * np.sin(u / 6.0) + 50 * np.cos(v / 8.0)).clip(0, 255).astype(np.uint8)
    tints = ((230, 120, 60), (60, 200, 90), (80, 120, 240), (220, 220, 60))
    planes = tuple(
        (scene[..., None] * (np.array(tint) / 255.0)).astype(np.uint8) for tint in tints
    )
    sigma = np.where(np.isfinite(depth), 0.02 * np.abs(depth), np.nan).astype(np.float32)
    return SweepView(
        f'sweep {number}',
        depth,
        sigma,
        ((u + v) % 256).astype(np.uint8),
        np.repeat(scene[..., None], 3, axis=2),
        FOCUS,
        planes,
        p.astype(np.float32),
        CAMERA,
        (0.1, 20.0),
        {'model': 'none'},
    )


SWEEPS = [ramp_sweep(0), ramp_sweep(1)]


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    with running_browser(tmp_path_factory.mktemp('profile')) as new_page:
        yield new_page()


@pytest.fixture
def address(tmp_path):
    def write(*sweeps: SweepView) -> str:
        scales = encode_scales(sweeps)
        path = tmp_path / 'page.html'
        path.write_text(build_page('a test', [encode_sweep(s, scales) for s in sweeps]), 'utf-8')
        return path.as_uri()

    return write


@pytest.fixture
def page(browser, address):
    browser.events.clear()
    browser.open(address(*SWEEPS))
    yield browser
    assert browser.problems() == []
    # The page requests nothing but itself.
    assert all(url.startswith('file:') for url in browser.requests())


def hover(page, panel, x, y, width=WIDTH, height=HEIGHT):
    """Move the mouse to a pixel of a panel; return the text of the tooltip."""
    left, top, wide, high = page.box(f'#panel-{panel} .view canvas')
    page.mouse('Moved', left + (x + 0.5) / width * wide, top + (y + 0.5) / height * high)
    return page.evaluate('document.getElementById("tip").textContent')


def number(text: str, name: str) -> float:
    """Return a value of the tooltip, in metres or per cent."""
    found = re.search(rf'{name} (-?[\d.]+)', text)
    assert found, text
    return float(found.group(1))


def curve(page) -> dict[float, float]:
    """Return p_n by focus, as drawn."""
    points = page.evaluate(
        '[...document.querySelectorAll("#curve circle")].map(c => '
        '[+c.dataset.focus, +c.dataset.p, +c.getAttribute("cy")])'
    )
    # Heights of the circles match their values.
    heights = np.array([[p, y] for _, p, y in points])
    assert np.ptp(heights[:, 1] + heights[:, 0] * (214 - 30)) < 1e-6
    return {focus: p for focus, p, _ in points}


@pytest.mark.parametrize('panel', ['planes', 'sharp', 'depth', 'sigma', 'confidence'])
def test_panels_show_the_values_under_the_mouse(page, panel):
    sweep = SWEEPS[0]
    for x, y in ((30, 60), (100, 33), (159, 119)):
        text = hover(page, panel, x, y)
        assert f'pixel {x}, {y}\n' in text
        assert number(text, 'depth') == pytest.approx(sweep.depth[y, x], rel=1e-3)
        assert number(text, 'sigma') == pytest.approx(sweep.sigma[y, x], rel=0.021)
        assert number(text, 'confidence') == pytest.approx(sweep.confidence[y, x] / 2.55, abs=0.6)


def test_invalid_pixels_have_reasons_and_colours(page):
    for x, text, rgb in (
        (10, 'depth none', colour_scales.INVALID_COLOUR),
        (30, 'depth nearer than 0.1 m', colour_scales.NEARER_COLOUR),
        (50, 'depth farther than 20 m', colour_scales.FARTHER_COLOUR),
    ):
        assert text in hover(page, 'depth', x, 10)
        assert tuple(page.pixels('#panel-depth .view canvas')[10, x, :3]) == rgb
    shown = page.pixels('#panel-depth .view canvas')[..., :3]
    expected = colour_scales.depth_scale(SWEEPS[0].depth, SWEEPS[1].depth).apply(SWEEPS[0].depth)
    finite = np.isfinite(SWEEPS[0].depth)
    difference = np.abs(shown.astype(int) - expected)[finite]
    assert difference.max() <= 8 and (difference > 0).mean() < 0.2  # codes round to 0.025 %
    legend = page.evaluate('document.querySelector("#panel-depth .legend").innerText').split()
    assert {'m', 'none', 'nearer', 'farther'} <= set(legend)


def test_slider_changes_the_plane(page):
    assert page.evaluate('+document.getElementById("plane").max') == len(FOCUS) - 1
    for n, plane in enumerate(SWEEPS[0].planes):
        page.evaluate(
            f's = document.getElementById("plane"); s.value = {n};'
            's.dispatchEvent(new Event("input", {bubbles: true}))'
        )
        shown = page.pixels('#panel-planes .view canvas')[..., :3].astype(float)
        smooth = cv2.blur(shown - plane, (8, 8))  # JPEG subsamples colour
        assert np.abs(smooth).mean() < 4.0
        text = page.evaluate('document.getElementById("plane-text").textContent')
        assert f'{n + 1} of 4: focused at {1 / FOCUS[n]:.3f} m, {FOCUS[n]:.2f} dioptres' in text


def test_focus_curve_of_the_pixel_under_the_mouse(page):
    seen = []
    for x in (25, 80, 150):
        hover(page, 'sharp', x, 60)
        drawn = curve(page)
        assert set(drawn) == set(FOCUS)
        assert sum(drawn.values()) == pytest.approx(1.0, abs=1e-9)
        expected = SWEEPS[0].probability[:, 60, x]
        assert [drawn[q] for q in FOCUS] == pytest.approx(expected, abs=0.005)
        # The line of the estimate is at its position on the dioptre axis.
        line = page.evaluate('+document.querySelector("#curve .estimate").getAttribute("x1")')
        places = page.evaluate(
            '[...document.querySelectorAll("#curve circle")].map(c => '
            '[+c.dataset.focus, +c.getAttribute("cx")])'
        )
        slope, offset = np.polyfit(*np.array(places).T, 1)
        assert (line - offset) / slope == pytest.approx(1.0 / SWEEPS[0].depth[60, x], rel=2e-3)
        band = page.evaluate('+document.querySelector("#curve .band").getAttribute("width")')
        depth, sigma = SWEEPS[0].depth[60, x], SWEEPS[0].sigma[60, x]
        assert band / slope == pytest.approx(2.0 * sigma / depth**2, rel=0.03)
        seen.append(line)
    assert len(set(seen)) == 3


def test_click_fixes_the_pixel_and_keys_move_it(page):
    hover(page, 'depth', 70, 60)
    left, top, wide, high = page.box('#panel-depth .view canvas')
    at = left + 70.5 / WIDTH * wide, top + 60.5 / HEIGHT * high
    for kind in ('Pressed', 'Released'):
        page.mouse(kind, *at, button='left', clickCount=1)
    hover(page, 'depth', 20, 100)
    title = 'document.getElementById("curve-text").textContent'
    assert page.evaluate(title).startswith('pixel 70, 60 ·')
    page.call('Input.dispatchKeyEvent', type='keyDown', key='ArrowRight', code='ArrowRight')
    assert page.evaluate(title).startswith('pixel 71, 60 ·')


def test_sweeps_can_be_chosen(page):
    assert page.evaluate('document.getElementById("sweep").length') == 2
    page.evaluate('document.getElementById("next").click()')
    page.until('document.body.dataset.shown === "sweep 1"')
    text = hover(page, 'depth', 100, 60)
    assert number(text, 'depth') == pytest.approx(SWEEPS[1].depth[60, 100], rel=1e-3)


def cloud_picture(page) -> np.ndarray:
    page.settle()
    return page.pixels('#cloud')


def drawn_share(picture: np.ndarray) -> float:
    return float((picture[..., 3] > 0).mean())


def test_mouse_rotates_zooms_and_pans_the_cloud(page):
    page.evaluate('document.getElementById("cloud").scrollIntoView()')
    home = cloud_picture(page)
    assert 0.05 < drawn_share(home) < 0.95
    assert len(np.unique(home[home[..., 3] > 0][:, 0])) > 50  # many colours
    left, top, wide, high = page.box('#cloud')
    middle = left + wide / 2, top + high / 2
    page.drag(*middle, 80, 0)
    turned = cloud_picture(page)
    assert (turned != home).any(axis=-1).mean() > 0.05
    page.evaluate('document.getElementById("cloud-reset").click()')
    assert np.array_equal(cloud_picture(page), home)

    def centre(picture):
        return np.argwhere(picture[..., 3] > 0).mean(axis=0)

    page.mouse('Wheel', *middle, deltaX=0, deltaY=500)
    small = cloud_picture(page)
    assert drawn_share(small) < 0.7 * drawn_share(home)
    page.drag(*middle, 50, 30, button='right')
    assert centre(cloud_picture(page)) - centre(small) == pytest.approx([30, 50], abs=4.0)
    page.call(
        'Input.dispatchMouseEvent',
        type='mouseWheel',
        x=middle[0],
        y=middle[1],
        deltaX=0,
        deltaY=-900,
    )
    assert drawn_share(cloud_picture(page)) > drawn_share(small)


def test_touch_rotates_and_zooms_the_cloud(page):
    page.evaluate('document.getElementById("cloud").scrollIntoView()')
    home = cloud_picture(page)
    left, top, wide, high = page.box('#cloud')
    x, y = left + wide / 2, top + high / 2
    page.touch('Start', (x, y))
    page.touch('Move', (x + 60, y))
    page.touch('End')
    assert (cloud_picture(page) != home).any(axis=-1).mean() > 0.05
    page.evaluate('document.getElementById("cloud-reset").click()')
    page.touch('Start', (x - 100, y), (x + 100, y))
    page.touch('Move', (x - 50, y), (x + 50, y))
    page.touch('End')
    assert drawn_share(cloud_picture(page)) < 0.5 * drawn_share(home)


def test_cloud_tooltip_shows_the_depth_of_the_point(page):
    page.evaluate('document.getElementById("cloud").scrollIntoView()')
    left, top, wide, high = page.box('#cloud')
    found_pixels = set()
    for dx in (-0.04, 0.02, 0.08):
        page.mouse('Moved', left + (0.5 + dx) * wide, top + high / 2)
        page.settle()
        text = page.evaluate(
            '(tip => tip.hidden ? "" : tip.textContent)(document.getElementById("tip"))'
        )
        found = re.search(r'pixel (\d+), (\d+)', text)
        assert found, text
        x, y = map(int, found.groups())
        assert number(text, 'depth') == pytest.approx(SWEEPS[0].depth[y, x], rel=1e-3)
        found_pixels.add((x, y))
    assert len(found_pixels) == 3
    page.mouse('Moved', left + 5, top + 5)  # no point here
    assert page.evaluate('document.getElementById("tip").hidden')


def test_cloud_colour_modes(page):
    scales = {
        'depth': colour_scales.depth_scale(SWEEPS[0].depth, SWEEPS[1].depth),
        'sigma': colour_scales.sigma_scale(np.stack([s.sigma for s in SWEEPS])),
    }
    for mode in ('image', 'depth', 'sigma'):
        page.evaluate(
            f's = document.getElementById("cloud-colour"); s.value = "{mode}";'
            's.dispatchEvent(new Event("change"))'
        )
        picture = cloud_picture(page)
        shown = picture[picture[..., 3] == 255][:, :3].astype(int)
        if mode == 'image':  # grey image
            assert np.ptp(shown, axis=1).mean() < 8
        else:
            known = {tuple(rgb) for rgb in scales[mode].colours.astype(int)}
            of_scale = [tuple(rgb) in known for rgb in shown[::97]]
            assert np.mean(of_scale) > 0.9


def test_light_and_dark_theme(browser, address):
    browser.events.clear()
    where = address(SWEEPS[0])
    browser.open(where, dark=False)
    light = browser.screenshot().mean()
    browser.evaluate('document.getElementById("theme").click()')
    browser.settle()
    chosen = browser.screenshot().mean()
    browser.open(where, dark=True)
    dark = browser.screenshot().mean()
    assert light > 150 and dark < light - 60
    assert chosen == pytest.approx(dark, abs=3.0)
    # No list of sweeps with one sweep.
    assert browser.evaluate('document.querySelector(".chooser").hidden')
    assert browser.problems() == []


def test_missing_data_are_named(browser, address):
    browser.events.clear()
    depth = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    browser.open(address(SweepView('nothing', depth)))
    text = browser.evaluate('document.body.innerText')
    for words in (
        'The planes are not known.',
        'Sigma is not known.',
        'No focus curve',
        '0 points',
        'field of view of 60° is assumed',
    ):
        assert words in text
    assert 'depth none' in hover(browser, 'depth', 80, 60)
    assert browser.problems() == []


def test_narrow_screen_needs_no_horizontal_scrolling(browser, address):
    browser.open(address(SWEEPS[0]), width=390, height=844)
    assert browser.evaluate('document.documentElement.scrollWidth') <= 390
    left, _, wide, _ = browser.box('#panel-depth .view canvas')
    assert left >= 0 and math.floor(left + wide) <= 390

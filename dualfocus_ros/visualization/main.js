// SPDX-License-Identifier: Apache-2.0
// State of the page and its controls.
'use strict';

const KEPT = 12;  // newest sweeps of a live view in the list
const NO_CURVE = 'No focus curve: it needs the planes and the network (live: dualfocus view --curves).';

(async () => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const at = id => document.getElementById(id);
  const sweeps = data.sweeps;
  let sweep = null, plane = 0, pixel = null, pinned = false, sharpPixels = null, token = 0, index = -1;

  const handlers = {
    onPixel: (x, y, event) => {
      if (!pinned) look(x, y);
      showTip(event, x, y);
    },
    onLeave: () => { at('tip').hidden = true; },
    onClick: (x, y) => {
      pinned = !pinned;
      look(x, y);
    },
    onStep: (dx, dy) => pixel && look(pixel[0] + dx, pixel[1] + dy),
  };
  // Planes and the sharp image may have another resolution than depth.
  const scaled = panel => ({
    ...handlers,
    ...Object.fromEntries(['onPixel', 'onClick'].map(name => [name, (x, y, event) => {
      const [width, height] = panel().size;
      handlers[name](Math.floor((x + 0.5) * sweep.width / width), Math.floor((y + 0.5) * sweep.height / height), event);
    }])),
  });
  const panels = {};
  for (const id of ['planes', 'sharp', 'depth', 'sigma', 'confidence']) {
    panels[id] = new Panel(id, scaled(() => panels[id]));
  }
  const cloud = new Cloud(at('cloud'), (found, event) => {
    if (!found) {
      at('tip').hidden = true;
      return;
    }
    if (!pinned) look(...found);
    showTip(event, ...found);
  });

  const clamp = (value, end) => Math.min(end - 1, Math.max(0, value));

  function lengthText(metres) {
    if (Number.isNaN(metres)) return 'none';
    const limit = k => sweep.limits ? ` than ${sweep.limits[k]} m` : '';
    if (metres === -Infinity) return `nearer${limit(0)}`;
    if (metres === Infinity) return `farther${limit(1)}`;
    return metres < 1 ? `${metres.toFixed(4)} m` : `${metres.toFixed(3)} m`;
  }

  function valuesAt(x, y) {
    const i = y * sweep.width + x;
    const lines = [`depth ${lengthText(sweep.depth[i])}`];
    if (sweep.sigma) lines.push(`sigma ${lengthText(sweep.sigma[i])}`);
    if (sweep.confidence) lines.push(`confidence ${Math.round(sweep.confidence[i] / 2.55)}\u00a0%`);
    return lines;
  }

  function showTip(event, x, y) {
    if (!event) return;
    const tip = at('tip');
    tip.textContent = [`pixel ${x}, ${y}`, ...valuesAt(x, y)].join('\n');
    tip.hidden = false;
    const right = event.clientX + 16 + tip.offsetWidth > innerWidth;
    const low = event.clientY + 16 + tip.offsetHeight > innerHeight;
    tip.style.left = `${right ? event.clientX - 12 - tip.offsetWidth : event.clientX + 16}px`;
    tip.style.top = `${low ? event.clientY - 12 - tip.offsetHeight : event.clientY + 16}px`;
  }

  function look(x, y) {
    pixel = [clamp(x, sweep.width), clamp(y, sweep.height)];
    for (const panel of Object.values(panels)) {
      panel.mark((pixel[0] + 0.5) / sweep.width, (pixel[1] + 0.5) / sweep.height);
    }
    showCurve();
  }

  function showCurve() {
    const [x, y] = pixel, i = y * sweep.width + x;
    at('curve-text').textContent = [`pixel ${x}, ${y}`, ...valuesAt(x, y), ...(pinned ? ['held: click to let go'] : [])].join(' · ');
    const known = sweep.focus && sweep.focus.length > 1;
    at('curve').style.display = known ? '' : 'none';
    if (known) {
      drawCurve(at('curve'), sweep.focus, curveAt(sweep, x, y), sweep.depth[i], sweep.sigma ? sweep.sigma[i] : NaN, plane);
    }
    if (!sweep.curves) {
      at('curve-note').textContent = NO_CURVE;
    } else {
      const block = Math.round(sweep.width / sweep.curves.width);
      at('curve-note').textContent = 'p\u2099 of each plane; the line is the depth, the band one sigma.'
        + (block > 1 ? ` Averaged over ${block} x ${block} pixels.` : '') + ' A click holds the pixel.';
    }
  }

  function showPlane() {
    if (!sweep.planes) {
      panels.planes.absent('The planes are not known.');
      at('plane').hidden = true;
      at('plane-text').textContent = '';
      return;
    }
    at('plane').hidden = false;
    at('plane').max = sweep.planes.length - 1;
    plane = clamp(plane, sweep.planes.length);
    at('plane').value = plane;
    const focus = sweep.focus[plane];
    at('plane-text').textContent = `${plane + 1} of ${sweep.planes.length}: focused at ${metresOf(focus)}, ${focus.toFixed(2)} dioptres`;
    showPicture(panels.planes, sweep.planes[plane]);
    if (pixel) look(...pixel);
  }

  function showFacts() {
    at('facts').replaceChildren();
    for (const [name, text] of Object.entries(sweep.facts)) {
      const pair = element('div', '', at('facts'));
      element('dt', '', pair, name);
      element('dd', '', pair, text);
    }
  }

  function paintCloud() {
    const mode = at('cloud-colour').value;
    const map = mode === 'sigma' && sweep.sigma ? 'sigma' : mode === 'depth' || !sharpPixels ? 'depth' : null;
    if (map) {
      const paint = painter(sweep.scales[map], sweep.scales.special);
      cloud.setColours(i => paint(sweep[map][i]));
    } else {
      cloud.setColours(i => sharpPixels[4 * i] | sharpPixels[4 * i + 1] << 8 | sharpPixels[4 * i + 2] << 16);
    }
  }

  function showCloud(stay) {
    const assumed = 0.5 * sweep.width / Math.tan(Math.PI / 6);
    const camera = sweep.camera || [assumed, assumed, (sweep.width - 1) / 2, (sweep.height - 1) / 2];
    if (!cloud.gl) {
      at('cloud-note').textContent = 'No cloud: this browser has no WebGL2.';
      return;
    }
    sharpPixels = sweep.sharp && pixelsOf(sweep.sharp, sweep.width, sweep.height);
    cloud.setDepth(sweep, camera, stay);
    paintCloud();
    at('cloud-note').textContent = `${cloud.count} points. Drag: turn. Right button, Shift or two fingers: move. Wheel or pinch: enlarge. Double click: reset.`
      + (sweep.camera ? '' : ' No intrinsics known: a horizontal field of view of 60° is assumed.');
  }

  async function choose(number, stay) {
    index = clamp(number, sweeps.length);
    at('sweep').selectedIndex = index;
    const mine = ++token, next = await decoded(sweeps[index]);
    if (mine !== token) return;  // another sweep was chosen meanwhile
    const same = sweep && sweep.width === next.width && sweep.height === next.height;
    if (!sweep && next.planes) plane = Math.floor(next.planes.length / 2);
    sweep = next;
    if (!same) pixel = null;
    const {scales} = sweep;
    showFacts();
    const maps = {depth: sweep.depth, sigma: sweep.sigma, confidence: sweep.confidence && Float32Array.from(sweep.confidence, v => v / 2.55)};
    for (const [name, values] of Object.entries(maps)) {
      if (values) showMap(panels[name], sweep, values, scales[name], scales.special);
      else panels[name].absent(`${name[0].toUpperCase()}${name.slice(1)} is not known.`);
    }
    if (sweep.sharp) showPicture(panels.sharp, sweep.sharp);
    else panels.sharp.absent('The all-in-focus image is not known.');
    look(...(pixel || [Math.floor(sweep.width / 2), Math.floor(sweep.height / 2)]));
    showPlane();
    showCloud(stay && same);
    document.body.dataset.shown = sweep.name;
  }

  function listSweeps() {
    at('sweep').replaceChildren(...sweeps.map(s => element('option', '', null, s.name)));
    document.querySelector('.chooser').hidden = !data.live && sweeps.length < 2;
  }

  async function follow() {
    at('following').hidden = false;
    for (let last = 0; ;) {
      try {
        const answer = await fetch(`sweeps?after=${last}`, {cache: 'no-store'});
        if (answer.status === 200) {
          const fresh = await answer.json();
          last = fresh.number;
          sweeps.push(fresh.sweep);
          const dropped = sweeps.length > KEPT;
          if (dropped) sweeps.shift();
          listSweeps();
          if (at('follow').checked) await choose(sweeps.length - 1, true);
          else at('sweep').selectedIndex = index = Math.max(0, index - dropped);
          at('status').textContent = '';
        } else {
          at('status').textContent = await answer.text();
        }
      } catch (error) {
        at('status').textContent = 'dualfocus view has ended or cannot be reached';
        await new Promise(done => setTimeout(done, 1000));
      }
    }
  }

  function stepTo(number) {
    at('follow').checked = false;
    choose(number, true);
  }
  at('plane').addEventListener('input', event => {
    plane = +event.target.value;
    showPlane();
  });
  at('sweep').addEventListener('change', event => stepTo(event.target.selectedIndex));
  at('previous').addEventListener('click', () => stepTo(index - 1));
  at('next').addEventListener('click', () => stepTo(index + 1));
  at('cloud-colour').addEventListener('change', () => sweep && paintCloud());
  at('cloud-size').addEventListener('input', event => {
    cloud.pointScale = +event.target.value;
    cloud.draw();
  });
  at('cloud-reset').addEventListener('click', () => cloud.gl && cloud.reset());
  at('theme').addEventListener('click', () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
  });
  listSweeps();
  if (sweeps.length) await choose(0, false);
  if (data.live) follow();
})();

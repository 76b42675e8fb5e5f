// SPDX-License-Identifier: Apache-2.0
// Focus curve: focus probability of one pixel over the planes, with the estimated depth.
'use strict';

const CURVE = {left: 34, right: 392, top: 30, bottom: 214};

function svg(tag, attributes, text) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function niceStep(range, count) {
  const rough = range / count, decade = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map(m => m * decade).find(step => step >= rough);
}

// probability: p_n in the order of focus, or null; depth and sigma in metres, NaN where unknown.
function drawCurve(place, focus, probability, depth, sigma, chosen) {
  place.replaceChildren();
  const add = (...words) => place.appendChild(svg(...words));
  const ends = [Math.min(...focus), Math.max(...focus)];
  const margin = 0.06 * (ends[1] - ends[0]);
  const low = Math.min(ends[0], Math.max(0, ends[0] - margin)), high = ends[1] + margin;
  const x = q => CURVE.left + (q - low) / (high - low) * (CURVE.right - CURVE.left);
  const y = p => CURVE.bottom - p * (CURVE.bottom - CURVE.top);
  const inside = q => Math.min(CURVE.right, Math.max(CURVE.left, x(q)));

  for (const p of [0, 0.25, 0.5, 0.75, 1]) {
    add('line', {class: 'axis', x1: CURVE.left, x2: CURVE.right, y1: y(p), y2: y(p)});
    add('text', {x: CURVE.left - 5, y: y(p) + 3, 'text-anchor': 'end'}, p);
  }
  const step = niceStep(high - low, 6);
  for (let k = Math.ceil(low / step); k * step <= high; k++) {
    add('line', {class: 'axis', x1: x(k * step), x2: x(k * step), y1: CURVE.bottom, y2: CURVE.bottom + 4});
    add('text', {x: x(k * step), y: CURVE.bottom + 14, 'text-anchor': 'middle'}, +(k * step).toFixed(6));
  }
  add('text', {x: CURVE.right, y: CURVE.bottom + 28, 'text-anchor': 'end'}, 'dioptres (1/m): far left, near right');
  // Metres above, if they fit.
  let last = -Infinity;
  for (const metres of [100, 50, 20, 10, 7, 5, 4, 3, 2.5, 2, 1.5, 1.2, 1, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.07, 0.05]) {
    const at = x(1 / metres);
    if (at < CURVE.left || at > CURVE.right - 12 || at < last + 40) continue;
    add('line', {class: 'axis', x1: at, x2: at, y1: CURVE.top - 6, y2: CURVE.top});
    add('text', {x: at, y: CURVE.top - 10, 'text-anchor': 'middle'}, `${metres} m`);
    last = at;
  }

  if (Number.isFinite(depth)) {
    const q = 1 / depth;
    if (Number.isFinite(sigma)) {
      const spread = sigma * q * q;
      const from = inside(q - spread), to = inside(q + spread);
      add('rect', {class: 'band', x: from, width: Math.max(1, to - from), y: CURVE.top, height: CURVE.bottom - CURVE.top});
    }
    add('line', {class: 'estimate', x1: inside(q), x2: inside(q), y1: CURVE.top, y2: CURVE.bottom});
  }
  if (!probability) return;
  const order = focus.map((_, n) => n).sort((a, b) => focus[a] - focus[b]);
  add('polyline', {class: 'line', points: order.map(n => `${x(focus[n])},${y(probability[n])}`).join(' ')});
  for (const n of order) {
    add('line', {class: 'stem', x1: x(focus[n]), x2: x(focus[n]), y1: y(0), y2: y(probability[n])});
    const point = add('circle', {
      class: n === chosen ? 'point chosen' : 'point', cx: x(focus[n]), cy: y(probability[n]),
      r: n === chosen ? 4.5 : 3, 'data-p': probability[n], 'data-focus': focus[n],
    });
    point.appendChild(svg('title', {}, `${metresOf(focus[n])}, p = ${probability[n].toFixed(3)}`));
  }
}

function metresOf(dioptres) {
  return dioptres > 1e-3 ? `${(1 / dioptres).toFixed(3)} m` : 'infinity';
}

// SPDX-License-Identifier: Apache-2.0
// Panels of images and maps, with legends and a circle at the chosen pixel.
'use strict';

function element(tag, className, parent, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Return a function from a value to 0xBBGGRR.
function painter(scale, special) {
  const packed = ([r, g, b]) => r | g << 8 | b << 16;
  const colours = bytesOfHex(scale.colours), steps = colours.length / 3 - 1;
  const palette = Uint32Array.from({length: steps + 1}, (_, i) => packed(colours.subarray(3 * i, 3 * i + 3)));
  const [none, nearer, farther] = [special.none, special.nearer, special.farther].map(packed);
  const low = scale.log ? Math.log(scale.low) : scale.low;
  const range = (scale.log ? Math.log(scale.high) : scale.high) - low;
  return value => {
    if (Number.isNaN(value)) return none;
    if (value === Infinity) return farther;
    if (value === -Infinity) return nearer;
    const position = ((scale.log ? Math.log(value) : value) - low) / range;
    return palette[Math.round(Math.min(1, Math.max(0, position)) * steps)];
  };
}

function bytesOfHex(text) {
  return Uint8Array.from(text.match(/../g), pair => parseInt(pair, 16));
}

class Panel {
  // onPixel(x, y, event) is called for the pixel under the mouse, onLeave() when it has left.
  constructor(id, handlers) {
    this.place = document.querySelector(`#panel-${id} .picture`);
    this.handlers = handlers;
  }

  // draw(context) draws on a canvas of width x height.
  show(width, height, draw, values) {
    if (!this.canvas) this.build();
    this.size = [width, height];
    this.canvas.className = values ? 'values' : '';
    Object.assign(this.canvas, {width, height});
    draw(this.canvas.getContext('2d'));
  }

  absent(text) {
    this.canvas = null;
    this.place.replaceChildren(element('div', 'absent', null, text));
  }

  build() {
    this.place.replaceChildren();
    const view = element('div', 'view', this.place);
    view.tabIndex = 0;
    this.canvas = element('canvas', '', view);
    this.cross = element('div', 'cross', view);
    this.cross.hidden = true;
    this.legend = element('div', 'legend', this.place);
    this.legend.hidden = true;
    const pixel = event => {
      const box = this.canvas.getBoundingClientRect(), [width, height] = this.size;
      const inside = (value, end) => Math.min(end - 1, Math.max(0, Math.floor(value)));
      return [
        inside((event.clientX - box.left) / box.width * width, width),
        inside((event.clientY - box.top) / box.height * height, height),
      ];
    };
    view.addEventListener('pointermove', event => this.handlers.onPixel(...pixel(event), event));
    view.addEventListener('pointerdown', event => this.handlers.onPixel(...pixel(event), event));
    view.addEventListener('pointerleave', () => this.handlers.onLeave());
    view.addEventListener('click', event => this.handlers.onClick(...pixel(event)));
    view.addEventListener('keydown', event => {
      const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
      if (!step) return;
      event.preventDefault();
      this.handlers.onStep(...step.map(value => event.shiftKey ? 10 * value : value));
    });
  }

  // Position relative to the image size: panels differ in resolution.
  mark(across, down) {
    if (!this.canvas) return;
    this.cross.hidden = false;
    this.cross.style.left = `${100 * across}%`;
    this.cross.style.top = `${100 * down}%`;
  }

  showLegend(scale, special, present) {
    this.legend.hidden = false;
    this.legend.replaceChildren(element('span', '', null, scale.unit));
    const bar = element('div', 'bar', this.legend), canvas = element('canvas', '', bar);
    const colours = bytesOfHex(scale.colours), count = colours.length / 3;
    canvas.width = 1;
    canvas.height = count;
    const context = canvas.getContext('2d'), column = context.createImageData(1, count);
    for (let i = 0; i < count; i++) {
      column.data.set([...colours.subarray(3 * i, 3 * i + 3), 255], 4 * (count - 1 - i));
    }
    context.putImageData(column, 0, 0);
    for (const [position, text] of scale.ticks) {
      element('span', 'tick', bar, text).style.bottom = `${100 * position}%`;
    }
    for (const name of present) {
      const line = element('div', 'swatch', this.legend);
      element('i', '', line).style.background = `rgb(${special[name].join()})`;
      line.append(name);
    }
  }
}

function showMap(panel, sweep, values, scale, special) {
  const paint = painter(scale, special);
  const seen = {none: false, nearer: false, farther: false};
  panel.show(sweep.width, sweep.height, context => {
    const image = context.createImageData(sweep.width, sweep.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      pixels[i] = 0xff000000 | paint(value);
      if (!Number.isFinite(value)) {
        seen[Number.isNaN(value) ? 'none' : value > 0 ? 'farther' : 'nearer'] = true;
      }
    }
    context.putImageData(image, 0, 0);
  }, true);
  panel.showLegend(scale, special, Object.keys(seen).filter(name => seen[name]));
}

function showPicture(panel, bitmap) {
  panel.show(bitmap.width, bitmap.height, context => context.drawImage(bitmap, 0, 0), false);
  panel.legend.hidden = true;
}

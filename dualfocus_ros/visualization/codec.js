// SPDX-License-Identifier: Apache-2.0
// Decoding of sweeps, as sweep_encoding.py encodes them, to arrays and bitmaps.
'use strict';

const CODE_NEARER = 1, CODE_FARTHER = 2, FIRST_LENGTH_CODE = 3, MIN_LENGTH = 1e-4;

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

async function inflated(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpacked8(text) {
  const values = await inflated(text);
  for (let i = 1; i < values.length; i++) values[i] += values[i - 1];
  return values;
}

async function unpackedMap(map) {
  const bytes = await inflated(map.data), count = bytes.length / 2;
  const values = new Float32Array(count);
  let code = 0;
  for (let i = 0; i < count; i++) {
    code = (code + (bytes[i] << 8) + bytes[count + i]) & 65535;
    values[i] = code >= FIRST_LENGTH_CODE
      ? MIN_LENGTH * Math.exp((code - FIRST_LENGTH_CODE) * map.step)
      : code === CODE_NEARER ? -Infinity : code === CODE_FARTHER ? Infinity : NaN;
  }
  return values;
}

function bitmapOf(text) {
  return createImageBitmap(new Blob([bytesOf(text)], {type: 'image/jpeg'}));
}

function pixelsOf(bitmap, width, height) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext('2d');
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

// Decode one sweep.
async function decoded(sweep) {
  const maybe = (value, decode) => value === null ? null : decode(value);
  const [depth, sigma, confidence, sharp, planes, curves] = await Promise.all([
    unpackedMap(sweep.depth), maybe(sweep.sigma, unpackedMap), maybe(sweep.confidence, unpacked8),
    maybe(sweep.sharp, bitmapOf), maybe(sweep.planes, all => Promise.all(all.map(bitmapOf))),
    maybe(sweep.curves, all => unpacked8(all.data)),
  ]);
  return {
    ...sweep, depth, sigma, confidence, sharp, planes,
    curves: curves && {...sweep.curves, data: curves},
  };
}

// p_n of a pixel, one number per plane; null without focus curves.
function curveAt(sweep, x, y) {
  const curves = sweep.curves;
  if (!curves) return null;
  const column = Math.floor(x * curves.width / sweep.width);
  const at = Math.floor(y * curves.height / sweep.height) * curves.width + column;
  return sweep.focus.map((_, n) => curves.data[n * curves.width * curves.height + at] / 255);
}

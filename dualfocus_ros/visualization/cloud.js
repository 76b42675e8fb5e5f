// SPDX-License-Identifier: Apache-2.0
// Point cloud of the depth map in WebGL2; mouse, touch and keys rotate, pan and zoom.
'use strict';

const VERTEX = `#version 300 es
in vec3 position;
in vec3 colour;
uniform mat3 turn;
uniform vec3 target;
uniform float away, near, far, size;
uniform vec2 zoom;
out vec3 shade;
void main() {
  vec3 p = turn * (position - target) + vec3(0.0, 0.0, away);
  // The optical frame has y down and z forward.
  gl_Position = vec4(p.x * zoom.x, -p.y * zoom.y, (p.z * (far + near) - 2.0 * far * near) / (far - near), p.z);
  // Size of the gap between neighbouring pixels at this depth.
  gl_PointSize = clamp(size * position.z / max(p.z, 1e-6), 1.0, 64.0);
  shade = colour;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec3 shade;
out vec4 colour;
void main() { colour = vec4(shade, 1.0); }`;
const FIELD = 0.5;  // half the height of the view at distance 1

class Cloud {
  // onPoint(x, y, event): depth pixel of the point under the mouse; null for none.
  constructor(canvas, onPoint) {
    this.canvas = canvas;
    this.gl = canvas.getContext('webgl2', {antialias: false, preserveDrawingBuffer: true});
    if (!this.gl) return;
    this.program = this.link();
    this.points = this.buffers();
    this.lines = this.buffers();
    this.count = 0;
    this.pointScale = 1;
    this.home = {yaw: -0.24, pitch: 0.3, away: 1, target: [0, 0, 1]};
    this.reset();
    this.listen(onPoint);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  link() {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, 'position');
    gl.bindAttribLocation(program, 1, 'colour');
    gl.linkProgram(program);
    return program;
  }

  buffers() {
    const gl = this.gl, array = gl.createVertexArray();
    const position = gl.createBuffer(), colour = gl.createBuffer();
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, position);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, colour);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 3, gl.UNSIGNED_BYTE, true, 0, 0);
    return {array, position, colour};
  }

  fill(buffers, positions, colours) {
    const gl = this.gl;
    if (positions) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers.position);
      gl.bufferData(gl.ARRAY_BUFFER, positions, gl.STATIC_DRAW);
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers.colour);
    gl.bufferData(gl.ARRAY_BUFFER, colours, gl.STATIC_DRAW);
  }

  // camera: fx, fy, cx, cy. stay keeps the current view.
  setDepth(sweep, camera, stay) {
    if (!this.gl) return;
    const [fx, fy, cx, cy] = camera, {width, height, depth} = sweep;
    this.pixels = new Uint32Array(depth.length);
    const positions = new Float32Array(3 * depth.length);
    let count = 0;
    for (let i = 0; i < depth.length; i++) {
      const z = depth[i];
      if (!Number.isFinite(z)) continue;
      positions.set([(i % width - cx) * z / fx, (Math.floor(i / width) - cy) * z / fy, z], 3 * count);
      this.pixels[count++] = i;
    }
    this.count = count;
    this.positions = positions.subarray(0, 3 * count);
    this.width = width;
    this.gap = 1 / fx;
    const sample = [];
    for (let i = 0; i < count; i += Math.max(1, Math.floor(count / 5000))) sample.push(this.positions[3 * i + 2]);
    sample.sort((a, b) => a - b);
    const middle = count ? sample[Math.floor(sample.length / 2)] : 1;
    const farthest = count ? sample[Math.floor(0.98 * (sample.length - 1))] : 2;
    const centre = [((width - 1) / 2 - cx) * middle / fx, ((height - 1) / 2 - cy) * middle / fy, middle];
    // Distance at which the image height fills the view.
    const away = Math.max(height / fy, width / fx / this.aspect()) * middle / (2 * FIELD) * 1.25;
    this.home = {yaw: -0.24, pitch: 0.3, away, target: centre};
    this.far = 20 * Math.max(farthest, away);
    this.frame(fx, fy, cx, cy, width, height, 0.12 * middle);
    if (!stay) this.reset();
  }

  // Camera frustum: lines from its centre to the corners of the image.
  frame(fx, fy, cx, cy, width, height, z) {
    const corner = (u, v) => [(u - cx) * z / fx, (v - cy) * z / fy, z];
    const corners = [corner(0, 0), corner(width, 0), corner(width, height), corner(0, height)];
    const lines = [];
    corners.forEach((from, k) => lines.push(0, 0, 0, ...from, ...from, ...corners[(k + 1) % 4]));
    this.lineCount = lines.length / 3;
    this.fill(this.lines, new Float32Array(lines), new Uint8Array(lines.length).fill(140));
  }

  // colourOf(i) returns 0xBBGGRR of pixel i of the depth map.
  setColours(colourOf) {
    if (!this.gl) return;
    const colours = new Uint8Array(3 * this.count);
    for (let k = 0; k < this.count; k++) {
      const value = colourOf(this.pixels[k]);
      colours[3 * k] = value & 255;
      colours[3 * k + 1] = value >> 8 & 255;
      colours[3 * k + 2] = value >> 16 & 255;
    }
    this.fill(this.points, this.positions, colours);
    this.draw();
  }

  reset() {
    Object.assign(this, {...this.home, target: [...this.home.target]});
    this.draw();
  }

  aspect() {
    return this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight);
  }

  // Rows of the rotation from the optical frame to the view.
  turn() {
    const [cy, sy] = [Math.cos(this.yaw), Math.sin(this.yaw)];
    const [cp, sp] = [Math.cos(this.pitch), Math.sin(this.pitch)];
    return [[cy, 0, sy], [sp * sy, cp, -sp * cy], [-cp * sy, sp, cp * cy]];
  }

  draw() {
    if (this.pending || !this.gl) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.paint();
    });
  }

  paint() {
    const gl = this.gl, canvas = this.canvas, ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(this.program);
    const uniform = name => gl.getUniformLocation(this.program, name);
    const rows = this.turn();
    gl.uniformMatrix3fv(uniform('turn'), false, [0, 1, 2].flatMap(k => rows.map(row => row[k])));
    gl.uniform3fv(uniform('target'), this.target);
    gl.uniform1f(uniform('away'), this.away);
    gl.uniform1f(uniform('near'), 0.002 * this.away);
    gl.uniform1f(uniform('far'), Math.max(this.far || 100, 20 * this.away));
    gl.uniform2f(uniform('zoom'), 1 / (FIELD * this.aspect()), 1 / FIELD);
    gl.uniform1f(uniform('size'), 1.6 * this.pointScale * (this.gap || 0) * height / (2 * FIELD));
    gl.bindVertexArray(this.points.array);
    gl.drawArrays(gl.POINTS, 0, this.count);
    gl.bindVertexArray(this.lines.array);
    gl.drawArrays(gl.LINES, 0, this.lineCount || 0);
  }

  // Depth pixel of the nearest point drawn at a canvas position in CSS pixels; null for none.
  pick(x, y) {
    const rows = this.turn(), [tx, ty, tz] = this.target, positions = this.positions;
    const half = this.canvas.clientHeight / 2, scale = half / FIELD, middle = this.canvas.clientWidth / 2;
    let best = -1, nearest = Infinity;
    for (let k = 0; k < this.count; k++) {
      const px = positions[3 * k] - tx, py = positions[3 * k + 1] - ty, pz = positions[3 * k + 2] - tz;
      const z = rows[2][0] * px + rows[2][1] * py + rows[2][2] * pz + this.away;
      if (z <= 0 || z >= nearest) continue;
      const u = middle + (rows[0][0] * px + rows[0][1] * py + rows[0][2] * pz) * scale / z;
      const v = half + (rows[1][0] * px + rows[1][1] * py + rows[1][2] * pz) * scale / z;
      const reach = Math.max(3, 0.8 * this.pointScale * this.gap * scale * positions[3 * k + 2] / z);
      if (Math.abs(u - x) < reach && Math.abs(v - y) < reach) {
        best = k;
        nearest = z;
      }
    }
    if (best < 0) return null;
    const pixel = this.pixels[best];
    return [pixel % this.width, Math.floor(pixel / this.width)];
  }

  rotate(dx, dy) {
    this.yaw -= 0.008 * dx;
    this.pitch = Math.min(1.55, Math.max(-1.55, this.pitch + 0.008 * dy));
    this.draw();
  }

  pan(dx, dy) {
    const rows = this.turn(), step = 2 * FIELD * this.away / Math.max(1, this.canvas.clientHeight);
    for (let k = 0; k < 3; k++) this.target[k] -= step * (rows[0][k] * dx + rows[1][k] * dy);
    this.draw();
  }

  enlarge(factor) {
    this.away = Math.min(1e4, Math.max(1e-3, this.away / factor));
    this.draw();
  }

  listen(onPoint) {
    const canvas = this.canvas, held = new Map();
    const middle = () => [...held.values()].reduce((sum, p) => [sum[0] + p[0] / held.size, sum[1] + p[1] / held.size], [0, 0]);
    const spread = () => {
      const [a, b] = [...held.values()];
      return Math.hypot(a[0] - b[0], a[1] - b[1]);
    };
    canvas.addEventListener('pointerdown', event => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, [event.clientX, event.clientY]);
      onPoint(null);
    });
    for (const end of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(end, event => held.delete(event.pointerId));
    }
    canvas.addEventListener('pointermove', event => {
      if (!held.has(event.pointerId)) {
        if (this.hovering) return;
        this.hovering = requestAnimationFrame(() => {
          this.hovering = 0;
          const box = canvas.getBoundingClientRect();
          onPoint(this.pick(event.clientX - box.left, event.clientY - box.top), event);
        });
        return;
      }
      const before = middle(), apart = held.size === 2 ? spread() : 0;
      held.set(event.pointerId, [event.clientX, event.clientY]);
      const after = middle(), dx = after[0] - before[0], dy = after[1] - before[1];
      if (held.size === 2) {
        this.enlarge(spread() / Math.max(1, apart));
        this.pan(dx, dy);
      } else if (event.buttons !== 1 || event.shiftKey) {
        this.pan(dx, dy);
      } else {
        this.rotate(dx, dy);
      }
    });
    canvas.addEventListener('pointerleave', () => onPoint(null));
    canvas.addEventListener('wheel', event => {
      event.preventDefault();
      this.enlarge(Math.exp(-0.0015 * event.deltaY));
    }, {passive: false});
    canvas.addEventListener('contextmenu', event => event.preventDefault());
    canvas.addEventListener('dblclick', () => this.reset());
    canvas.addEventListener('keydown', event => {
      const act = {
        ArrowLeft: () => this.rotate(-12, 0), ArrowRight: () => this.rotate(12, 0),
        ArrowUp: () => this.rotate(0, -12), ArrowDown: () => this.rotate(0, 12),
        '+': () => this.enlarge(1.15), '-': () => this.enlarge(1 / 1.15), 0: () => this.reset(),
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  }
}

// Volumes in the browser: voxels, where they lie, and slices of them. Indices are (d, h, w), as in Python.

const ARRAYS = {
  bool: Uint8Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array,
  uint32: Uint32Array, int32: Int32Array, float16: Uint16Array, float32: Float32Array, float64: Float64Array,
};
const HALVES = halves();

/** Every half-precision number by its 16 bits; not all browsers have Float16Array. */
function halves() {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[bits] = fraction ? NaN : sign * Infinity;
    else table[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return table;
}

/** Numbers of a message's buffer; copied, since its start need not be aligned. */
function numbers(dtype, view) {
  return new ARRAYS[dtype](view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** The array axes that run down and across the plane that cuts an axis. */
function keptAxes(cut) {
  return [[1, 2], [0, 2], [0, 1]][cut];
}

/** A volume: `scale` and `offset` lead from the scan's index to its own; `extent` is how much of each axis is image, not padding. */
class Grid {
  constructor(header, view) {
    Object.assign(this, header);
    this.raw = numbers(header.dtype, view);
    this.half = header.dtype === "float16";
    this.strides = [this.shape[1] * this.shape[2], this.shape[2], 1];
  }

  number(raw) {
    return this.half ? HALVES[raw] : raw;
  }

  /** Its own continuous index along an axis. */
  own(axis, index) {
    return this.scale[axis] * index + this.offset[axis];
  }

  /** The scan's index along an axis. */
  onScan(axis, own) {
    return (own - this.offset[axis]) / this.scale[axis];
  }

  /** Its nearest voxel along an axis, -1 outside. */
  nearest(axis, index) {
    const own = this.own(axis, index);
    if (own < -0.5 || own >= this.extent[axis] - 0.5) return -1;
    return Math.min(Math.floor(own + 0.5), this.shape[axis] - 1);
  }

  /** The value of the voxel that holds a place of the scan, without interpolation; null outside. */
  at(index) {
    let place = 0;
    for (let axis = 0; axis < 3; axis++) {
      const own = this.nearest(axis, index[axis]);
      if (own < 0) return null;
      place += own * this.strides[axis];
    }
    return this.number(this.raw[place]);
  }

  /** Numbers of a plane at the scan's index along `cut`, row by row, between two of its own planes interpolated. */
  between(cut, index) {
    const [down, across] = keptAxes(cut);
    const [rows, columns] = [this.shape[down], this.shape[across]];
    const own = Math.min(Math.max(this.own(cut, index), 0), this.shape[cut] - 1);
    const first = Math.min(Math.floor(own), Math.max(this.shape[cut] - 2, 0));
    const share = own - first;
    const next = share > 0 ? this.strides[cut] : 0;
    const plane = new Float32Array(rows * columns);
    for (let row = 0, to = 0; row < rows; row++) {
      let from = first * this.strides[cut] + row * this.strides[down];
      for (let column = 0; column < columns; column++, to++, from += this.strides[across]) {
        const low = this.number(this.raw[from]);
        plane[to] = share > 0 ? low + share * (this.number(this.raw[from + next]) - low) : low;
      }
    }
    return {plane, rows, columns};
  }

  /** Calls `visit(value, place)` for each voxel of the plane `own` along `cut`; returns its rows and columns. */
  visitPlane(cut, own, visit) {
    const [down, across] = keptAxes(cut);
    const [rows, columns] = [this.shape[down], this.shape[across]];
    const {raw, half} = this;
    for (let row = 0, to = 0; row < rows; row++) {
      let from = own * this.strides[cut] + row * this.strides[down];
      for (let column = 0; column < columns; column++, to++, from += this.strides[across]) {
        visit(half ? HALVES[raw[from]] : raw[from], to);
      }
    }
    return [rows, columns];
  }

  /** A value's place between the colours' limits, 0 to 1. */
  shade(value) {
    const {low, high} = this;
    const share = this.log
      ? Math.log(Math.max(value, low) / low) / Math.log(high / low)
      : (value - low) / Math.max(high - low, 1e-12);
    return Math.min(Math.max(share, 0), 1);
  }

  /** The value at a share of the colours' limits. */
  valueOf(share) {
    const {low, high} = this;
    return this.log ? low * (high / low) ** share : low + share * (high - low);
  }
}

/** Segments [row, column, row, column, ...] where a plane passes a level: marching squares. */
function contour({plane, rows, columns}, level) {
  const segments = [];
  const cross = (a, b) => (level - a) / (b - a);
  for (let row = 0; row + 1 < rows; row++) {
    for (let column = 0; column + 1 < columns; column++) {
      const at = row * columns + column;
      const [a, b, c, d] = [plane[at], plane[at + 1], plane[at + columns + 1], plane[at + columns]];
      const kind = (a >= level) | ((b >= level) << 1) | ((c >= level) << 2) | ((d >= level) << 3);
      if (kind === 0 || kind === 15) continue;
      const top = () => [row, column + cross(a, b)];
      const right = () => [row + cross(b, c), column + 1];
      const bottom = () => [row + 1, column + cross(d, c)];
      const left = () => [row + cross(a, d), column];
      const join = (one, other) => segments.push(...one(), ...other());
      if (kind === 1 || kind === 14) join(left, top);
      else if (kind === 2 || kind === 13) join(top, right);
      else if (kind === 4 || kind === 11) join(right, bottom);
      else if (kind === 8 || kind === 7) join(bottom, left);
      else if (kind === 3 || kind === 12) join(left, right);
      else if (kind === 6 || kind === 9) join(top, bottom);
      else if (kind === 5) { join(left, top); join(right, bottom); }
      else { join(top, right); join(bottom, left); }
    }
  }
  return segments;
}

/** Position (x, y, z) in mm of an index (d, h, w), by the scan's 3 x 4 matrix. */
function positionOf(matrix, index) {
  return matrix.map(row => row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3]);
}

/** A number as a reader wants it: three digits that count, zero as zero. */
function digits(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return String(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1).replace(".0e", "e") : String(Number(value.toPrecision(3)));
}

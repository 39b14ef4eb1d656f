// Closed surfaces drawn with a depth buffer: small meshes need no graphics card, and every browser has this.

/** A mesh with vertices in mm, as the planes show them, and unit normals. */
class Mesh {
  constructor(vertices, faces, spacing) {
    this.vertices = vertices.map((value, at) => value * spacing[at % 3]);
    this.faces = faces;
    this.normals = this.unitNormals();
  }

  unitNormals() {
    const {vertices: v, faces: f} = this;
    const normals = new Float32Array(v.length);
    for (let at = 0; at < f.length; at += 3) {
      const [a, b, c] = [3 * f[at], 3 * f[at + 1], 3 * f[at + 2]];
      const [p, q, r] = [v[b] - v[a], v[b + 1] - v[a + 1], v[b + 2] - v[a + 2]];
      const [s, t, u] = [v[c] - v[a], v[c + 1] - v[a + 1], v[c + 2] - v[a + 2]];
      const cross = [q * u - r * t, r * s - p * u, p * t - q * s];
      for (const corner of [a, b, c]) for (let axis = 0; axis < 3; axis++) normals[corner + axis] += cross[axis];
    }
    for (let at = 0; at < normals.length; at += 3) {
      const length = Math.hypot(normals[at], normals[at + 1], normals[at + 2]) || 1;
      for (let axis = 0; axis < 3; axis++) normals[at + axis] /= length;
    }
    return normals;
  }
}

/** Rows of a rotation: to the right, down, and away from the reader, each in (d, h, w) mm. */
function rotation(yaw, pitch) {
  const [c, s, e, f] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  return [[0, s, c], [e, -f * c, f * s], [-f, -e * c, e * s]];
}

function turned(matrix, x, y, z) {
  return matrix.map(row => row[0] * x + row[1] * y + row[2] * z);
}

/** Paint a mesh into RGBA pixels. */
function paintMesh(pixels, width, height, mesh, matrix, centre, pixelsPerMm, rgb, opacity) {
  const {vertices, normals, faces} = mesh;
  const count = vertices.length / 3;
  const [x, y, z, light] = [0, 1, 2, 3].map(() => new Float32Array(count));
  for (let at = 0, from = 0; at < count; at++, from += 3) {
    const place = turned(matrix, vertices[from] - centre[0], vertices[from + 1] - centre[1], vertices[from + 2] - centre[2]);
    x[at] = width / 2 + pixelsPerMm * place[0];
    y[at] = height / 2 + pixelsPerMm * place[1];
    z[at] = place[2];
    const facing = turned(matrix, normals[from], normals[from + 1], normals[from + 2]);
    light[at] = 0.3 + 0.7 * Math.abs(0.35 * facing[0] + 0.45 * facing[1] + 0.82 * facing[2]);
  }
  const depth = new Float32Array(width * height).fill(Infinity);
  const shade = new Float32Array(width * height);
  for (let at = 0; at < faces.length; at += 3) fill(faces[at], faces[at + 1], faces[at + 2]);
  for (let at = 0; at < depth.length; at++) {
    if (depth[at] === Infinity) continue;
    for (let band = 0; band < 3; band++) {
      const under = pixels[4 * at + band];
      pixels[4 * at + band] = under + opacity * (Math.min(255, rgb[band] * shade[at]) - under);
    }
  }

  function fill(a, b, c) {
    const area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a]);
    if (!area) return;
    const left = Math.max(0, Math.ceil(Math.min(x[a], x[b], x[c]))), right = Math.min(width - 1, Math.max(x[a], x[b], x[c]));
    const top = Math.max(0, Math.ceil(Math.min(y[a], y[b], y[c]))), bottom = Math.min(height - 1, Math.max(y[a], y[b], y[c]));
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        const v = ((column - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (row - y[a])) / area;
        const w = ((x[b] - x[a]) * (row - y[a]) - (column - x[a]) * (y[b] - y[a])) / area;
        const u = 1 - v - w;
        if (u < 0 || v < 0 || w < 0) continue;
        const deep = u * z[a] + v * z[b] + w * z[c];
        const place = row * width + column;
        if (deep >= depth[place]) continue;
        depth[place] = deep;
        shade[place] = u * light[a] + v * light[b] + w * light[c];
      }
    }
  }
}

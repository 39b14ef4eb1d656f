// What stands in the frame: planes that answer mouse, wheel and keys, and the surface.

const AXES = "dhw";
const AXIS_INK = ["#ffb454", "#63d2a8", "#7cc4ff"];
const WHEEL_STEP = 100;  // px of turning that move one slice; one notch of most mice
const KEY_ZOOM = 1.25;

function element(tag, {className = "", text = "", ...attributes} = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A frame with a canvas that knows its size and takes focus. */
class Pane {
  constructor(explorer, title) {
    [this.explorer, this.kept] = [explorer, new Map()];
    this.canvas = element("canvas", {tabindex: 0, role: "img"});
    this.whole = element("button", {className: "fhx-whole", type: "button", "aria-label": `${title}: whole frame`, title: "whole frame (m)", text: "⤢"});
    this.root = element("div", {className: "fhx-pane"}, this.canvas, this.whole);
    this.whole.addEventListener("click", () => explorer.maximise(this));
    this.canvas.addEventListener("contextmenu", event => event.preventDefault());
    this.canvas.addEventListener("keydown", event => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const act = this.keys()[event.key];
      if (!act) return;
      act();
      event.preventDefault();
      event.stopPropagation();  // JupyterLab has meanings of its own for most keys
    });
    this.listen();
  }

  /** What a function made, made once for as long as `key` is the same. */
  once(name, key, make) {
    if (this.kept.get(name)?.key !== key) this.kept.set(name, {key, made: make()});
    return this.kept.get(name).made;
  }

  /** The context, cleared and in CSS pixels. */
  begin() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    return {context, width, height};
  }
}

class SlicePane extends Pane {
  constructor(explorer, row, cut) {
    super(explorer, `plane across ${AXES[cut]}`);
    [this.row, this.cut, this.turned] = [row, cut, 0];
  }

  get axes() {
    return keptAxes(this.cut);
  }

  keys() {
    const {explorer, cut} = this;
    const [down, across] = this.axes;
    const zoom = factor => () => explorer.zoom(factor);
    return {
      ArrowUp: () => explorer.step(down, -1), ArrowDown: () => explorer.step(down, 1),
      ArrowLeft: () => explorer.step(across, -1), ArrowRight: () => explorer.step(across, 1),
      PageUp: () => explorer.step(cut, -1), PageDown: () => explorer.step(cut, 1),
      "+": zoom(KEY_ZOOM), "=": zoom(KEY_ZOOM), "-": zoom(1 / KEY_ZOOM), 0: () => explorer.whole(),
      m: () => explorer.maximise(this), Escape: () => explorer.release(),
    };
  }

  listen() {
    const {canvas, explorer} = this;
    let held = "";
    let last = [0, 0];
    canvas.addEventListener("pointerdown", event => {
      explorer.take(this);
      canvas.setPointerCapture(event.pointerId);
      last = [event.offsetX, event.offsetY];
      held = event.button || event.shiftKey ? "pan" : explorer.measuring ? "measure" : "point";
      if (held === "measure") explorer.measured = {cut: this.cut, from: this.indexAt(event), to: this.indexAt(event)};
      this.drag(event, held, last);
    });
    canvas.addEventListener("pointermove", event => {
      if (held) this.drag(event, held, last);
      explorer.read(this, event);
      last = [event.offsetX, event.offsetY];
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = ""; });
    canvas.addEventListener("pointerleave", () => explorer.read(null, null));
    canvas.addEventListener("wheel", event => {
      if (explorer.taken !== this) return;  // the page scrolls until this plane is clicked
      event.preventDefault();
      this.turn(event);
    }, {passive: false});
  }

  drag(event, held, last) {
    const {explorer} = this;
    if (held === "pan") explorer.pan(this.axes, [event.offsetY - last[1], event.offsetX - last[0]], this.pixelsPerMm);
    else if (held === "measure") explorer.measure(this.indexAt(event));
    else explorer.pointTo(this.indexAt(event));
  }

  /** Turns of a wheel add up, so that a touchpad's many small ones do not run through the scan. */
  turn(event) {
    const unit = [1, 16, 400][event.deltaMode];
    if (event.ctrlKey) return this.explorer.zoom(Math.exp(-event.deltaY * unit / 300), this.indexAt(event));
    this.turned += event.deltaY * unit;
    const steps = Math.trunc(this.turned / WHEEL_STEP);
    this.turned -= steps * WHEEL_STEP;
    if (steps) this.explorer.step(this.cut, steps);
  }

  /** The scan's continuous index under the mouse. */
  indexAt({offsetX, offsetY}) {
    const {scan, view} = this.explorer;
    const [down, across] = this.axes;
    const index = [...view.point];
    index[down] = (view.centre[down] + (offsetY - this.canvas.clientHeight / 2) / this.pixelsPerMm) / scan.spacing[down];
    index[across] = (view.centre[across] + (offsetX - this.canvas.clientWidth / 2) / this.pixelsPerMm) / scan.spacing[across];
    return index;
  }

  draw(pixelsPerMm) {
    this.pixelsPerMm = pixelsPerMm;
    const {explorer, cut} = this;
    const {scan, view} = explorer;
    const {context, width, height} = this.begin();
    const [down] = this.axes;
    const place = (axis, index) =>
      (axis === down ? height : width) / 2 + (index * scan.spacing[axis] - view.centre[axis]) * pixelsPerMm;
    const slice = view.point[cut];
    const grey = this.once("grey", `${scan.key} ${slice} ${view.window}`, () => paintGrey(scan, cut, slice, view.window));
    drawPlane(context, scan, cut, grey, place, true);
    this.drawMap(context, place, slice);
    this.drawContours(context, place, slice);
    this.drawMarks(context, place, width, height);
    this.describe(slice);
  }

  drawMap(context, place, slice) {
    const {explorer, cut, row} = this;
    const {view} = explorer;
    const map = explorer.mapOf(row);
    const own = map ? map.nearest(cut, slice) : -1;
    if (own < 0) return;
    const colours = explorer.coloursOf(map);
    const look = `${map.key} ${own} ${view.colours} ${view.opacity} ${view.fading} ${view.lower} ${view.upper}`;
    const painted = this.once("map", look, () => paintMap(map, cut, own, colours, view));
    drawPlane(context, map, cut, painted, place, view.smooth);
  }

  drawContours(context, place, slice) {
    for (const {grid, colour, role} of this.explorer.contoursOf(this.row)) {
      const own = grid.own(this.cut, slice);
      if (own < -0.5 || own > grid.extent[this.cut] - 0.5) continue;
      const segments = this.once(role, `${grid.key} ${slice}`, () => contour(grid.between(this.cut, slice), 0.5));
      drawContour(context, grid, this.cut, segments, place, colour, 2);
    }
  }

  drawMarks(context, place, width, height) {
    const {explorer, cut} = this;
    const {view, scan} = explorer;
    const [down, across] = this.axes;
    for (const axis of this.axes) {
      context.strokeStyle = AXIS_INK[axis];
      context.globalAlpha = 0.75;
      context.lineWidth = 1;
      context.beginPath();
      const at = Math.round(place(axis, view.point[axis])) + 0.5;
      if (axis === down) { context.moveTo(0, at); context.lineTo(width, at); }
      else { context.moveTo(at, 0); context.lineTo(at, height); }
      context.stroke();
      context.globalAlpha = 1;
    }
    drawScaleBar(context, this.pixelsPerMm, height, width);
    const depth = `${digits(Math.round(10 * view.point[cut] * scan.spacing[cut]) / 10)} mm`;
    const label = scan.flat ? "" : `${AXES[cut]} ${view.point[cut] + 1} of ${scan.shape[cut]} · ${depth}`;
    write(context, label, 10, 18, {colour: AXIS_INK[cut]});
    if (!scan.flat) write(context, `${AXES[across]} → ${AXES[down]} ↓`, width - 10, height - 12, {align: "right", size: 11, colour: "#ddd"});
    this.drawMeasure(context, place);
  }

  drawMeasure(context, place) {
    const {measured} = this.explorer;
    if (!measured || measured.cut !== this.cut) return;
    const [down, across] = this.axes;
    const ends = [measured.from, measured.to].map(index => [place(across, index[across]), place(down, index[down])]);
    context.strokeStyle = "#ffe600";
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(...ends[0]);
    context.lineTo(...ends[1]);
    context.stroke();
    write(context, `${this.explorer.lengthMm().toFixed(1)} mm`, ends[1][0] + 8, ends[1][1] - 6, {colour: "#ffe600"});
  }

  describe(slice) {
    const {scan} = this.explorer;
    const where = scan.flat ? "the image" : `plane across ${AXES[this.cut]}, slice ${slice + 1} of ${scan.shape[this.cut]}`;
    const keys = "Arrows move the point, PageUp and PageDown the slice, plus and minus zoom, 0 shows all, m fills the frame.";
    this.canvas.setAttribute("aria-label", `${this.explorer.rows[this.row]?.title ?? ""}: ${where}. ${keys}`);
  }
}

class SurfacePane extends Pane {
  constructor(explorer, row) {
    super(explorer, "surface");
    [this.row, this.yaw, this.pitch, this.zoomed] = [row, 0.6, 0.35, 1];
  }

  keys() {
    const turn = (yaw, pitch) => () => this.turn(yaw, pitch);
    const zoom = factor => () => { this.zoomed *= factor; this.explorer.redraw(); };
    return {
      ArrowLeft: turn(0.15, 0), ArrowRight: turn(-0.15, 0), ArrowUp: turn(0, 0.15), ArrowDown: turn(0, -0.15),
      "+": zoom(KEY_ZOOM), "=": zoom(KEY_ZOOM), "-": zoom(1 / KEY_ZOOM),
      m: () => this.explorer.maximise(this), Escape: () => this.explorer.release(),
    };
  }

  listen() {
    const {canvas, explorer} = this;
    let held = false;
    canvas.addEventListener("pointerdown", event => { explorer.take(this); held = true; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", event => { if (held) this.turn(event.movementX / 120, event.movementY / 120); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = false; });
  }

  turn(yaw, pitch) {
    this.yaw -= yaw;
    this.pitch = Math.min(Math.max(this.pitch + pitch, -1.5), 1.5);
    this.explorer.redraw();
  }

  draw() {
    const {context, width, height} = this.begin();
    const {scan, view} = this.explorer;
    const matrix = rotation(this.yaw, this.pitch);
    matrix[2] = matrix[2].map(part => part * scan.hand);
    const sizes = scan.shape.map((count, axis) => (count - 1) * scan.spacing[axis]);
    const centre = sizes.map(size => size / 2);
    const pixelsPerMm = this.zoomed * 0.95 * Math.min(width, height) / Math.hypot(...sizes);
    const {meshes, said} = this.explorer.meshesOf(this.row);
    if (meshes.length) {
      const look = [scan.key, width, height, this.yaw, this.pitch, pixelsPerMm, ...meshes.map(({key}) => key)].join(" ");
      context.drawImage(this.once("surface", look, () => {
        const {pixels, done} = sheet(height, width);
        for (let at = 3; at < pixels.length; at += 4) pixels[at] = 255;
        for (const {mesh, rgb, opacity} of meshes) paintMesh(pixels, width, height, mesh, matrix, centre, pixelsPerMm, rgb, opacity);
        return done();
      }), 0, 0);
    }
    const place = point => {
      const [x, y] = turned(matrix, ...point.map((value, axis) => value - centre[axis]));
      return [width / 2 + pixelsPerMm * x, height / 2 + pixelsPerMm * y];
    };
    for (let cut = 0; cut < 3; cut++) this.drawFrame(context, cut, sizes, view.point[cut] * scan.spacing[cut], place);
    write(context, said, 10, 18, {size: 11, colour: "#ddd"});
    drawScaleBar(context, pixelsPerMm, height, width);
    this.canvas.setAttribute("aria-label", `Surface. ${said} Arrows turn it, plus and minus zoom, m fills the frame.`);
  }

  /** The outline of a plane, in the colour of its lines on the others. */
  drawFrame(context, cut, sizes, at, place) {
    const [down, across] = keptAxes(cut);
    context.strokeStyle = AXIS_INK[cut];
    context.lineWidth = 1;
    context.beginPath();
    for (const [far, wide] of [[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]) {
      const corner = [0, 0, 0];
      [corner[cut], corner[down], corner[across]] = [at, far * sizes[down], wide * sizes[across]];
      context.lineTo(...place(corner));
    }
    context.stroke();
  }
}

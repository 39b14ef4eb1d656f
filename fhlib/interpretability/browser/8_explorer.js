// The explorer: one scan, rows of planes through one point, and what the reader does with them.

const GONE = "The kernel has stopped. What is loaded still works: slices, zoom, thresholds, ruler, saving. Run the cell again for other maps and scans.";
const SILENT = "The kernel is busy or gone. What is loaded still works; other maps and scans come when it answers.";

class Explorer extends Scene {
  constructor(model, kernel) {
    super(model, kernel);
    this.root = element("section", {className: "fhx", "aria-label": "attention explorer"});
    this.root.explorer = this;  // for whoever looks with the browser's tools
    kernel.listeners.add(state => this.tellKernel(state));
    this.resized = new ResizeObserver(() => this.redraw());
  }

  /** Ask for the scan and what is laid over it, then build the page. */
  async start() {
    this.takeScan(await this.kernel.ask("hello"));
    this.controls = new Controls(this);
    this.frame = element("div", {className: "fhx-frame"});
    this.status = element("div", {className: "fhx-status", role: "status"});
    this.notice = element("div", {className: "fhx-notice", role: "alert", hidden: ""});
    this.bar = element("progress", {max: 1, value: 0, hidden: "", "aria-label": "features of the scan"});
    const hint = element("div", {className: "fhx-hint", text:
      "Click a plane: drag moves the point, the wheel then turns slices (Esc gives it back to the page), Ctrl and wheel zoom, Shift and drag move the picture. Keys: arrows, PageUp, PageDown, + − 0 m. For research only."});
    const stage = element("div", {className: "fhx-stage"}, this.notice, this.bar, this.frame, this.status, hint);
    this.root.replaceChildren(this.controls.root, stage);
    this.resized.observe(this.frame);
    document.addEventListener("pointerdown", event => { if (!this.root.contains(event.target)) this.take(null); });
    await this.fetchRows();
    this.tellKernel(this.kernel.state);
    return this;
  }

  /** The panes of all rows; built anew where their number has changed. */
  buildFrame() {
    const cuts = this.scan.flat ? [0] : [0, 1, 2];
    if (this.panes && this.builtFor === `${this.rows.length} ${cuts.length}`) return;
    this.builtFor = `${this.rows.length} ${cuts.length}`;
    [this.maximised, this.taken, this.panes, this.strips] = [null, null, [], []];
    const rows = this.rows.map((_, number) => {
      const panes = cuts.map(cut => new SlicePane(this, number, cut));
      if (!this.scan.flat) panes.push(new SurfacePane(this, number));
      this.panes.push(...panes);
      const strip = {title: element("span", {className: "fhx-title"}), bar: element("canvas", {role: "img"})};
      this.strips.push(strip);
      const grid = element("div", {className: "fhx-panes"}, ...panes.map(pane => pane.root));
      return element("div", {className: "fhx-view"}, element("div", {className: "fhx-strip"}, strip.title, strip.bar), grid);
    });
    this.frame.replaceChildren(...rows);
    this.resized.disconnect();
    for (const part of [this.frame, ...this.panes.map(pane => pane.root)]) this.resized.observe(part);  // a title that wraps makes panes lower
    this.frame.dataset.rows = this.scan.flat ? "flat" : rows.length;
  }

  pointTo(index) {
    const point = index.map((value, axis) => Math.min(Math.max(Math.round(value), 0), this.scan.shape[axis] - 1));
    if (point.every((value, axis) => value === this.view.point[axis])) return;
    this.choose({point});
  }

  step(axis, steps) {
    const point = [...this.view.point];
    point[axis] += steps;
    this.pointTo(point);
  }

  zoom(factor, at = this.view.point) {
    const zoom = Math.min(Math.max(this.view.zoom * factor, 1), 32);
    const share = this.view.zoom / zoom;
    const kept = at.map((value, axis) => value * this.scan.spacing[axis]);
    this.view.centre = zoom === 1 ? this.middle() : this.view.centre.map((value, axis) => kept[axis] + (value - kept[axis]) * share);
    this.view.zoom = zoom;
    this.redraw();
  }

  middle() {
    return this.scan.shape.map((count, axis) => (count - 1) / 2 * this.scan.spacing[axis]);
  }

  whole() {
    [this.view.zoom, this.view.centre] = [1, this.middle()];
    this.redraw();
  }

  pan(axes, pixels, pixelsPerMm) {
    axes.forEach((axis, at) => { this.view.centre[axis] -= pixels[at] / pixelsPerMm; });
    this.redraw();
  }

  /** A plane that was clicked takes the wheel. */
  take(pane) {
    this.taken = pane;
    for (const each of this.panes) each.root.classList.toggle("fhx-taken", each === pane);
    pane?.canvas.focus({preventScroll: true});
  }

  release() {
    if (this.maximised) this.maximise(this.maximised);
    else this.take(null);
  }

  maximise(pane) {
    this.maximised = this.maximised === pane ? null : pane;
    for (const each of this.panes) each.root.hidden = Boolean(this.maximised) && each !== this.maximised;
    for (const view of this.frame.children) view.hidden = Boolean(this.maximised) && !view.contains(this.maximised.root);
    this.frame.classList.toggle("fhx-one", Boolean(this.maximised));
    this.redraw();
  }

  toggleRuler() {
    this.measuring = !this.measuring;
    if (!this.measuring) this.measured = null;
    this.controls.measure.setAttribute("aria-pressed", String(this.measuring));
    this.redraw();
  }

  measure(index) {
    this.measured.to = index;
    this.redraw();
  }

  lengthMm() {
    const {from, to} = this.measured;
    return Math.hypot(...from.map((value, axis) => (to[axis] - value) * this.scan.spacing[axis]));
  }

  /** What lies under the mouse; null where it has left. Kept as a place on the plane, since the plane may move below it. */
  read(pane, event) {
    this.hovered = pane && {pane, offsetX: event.offsetX, offsetY: event.offsetY};
    this.showStatus();
  }

  /** Position and values under the mouse, else at the point. */
  showStatus() {
    const index = this.hovered ? this.hovered.pane.indexAt(this.hovered) : this.view.point;
    const grey = this.scan.at(index);
    if (grey === null) return void (this.status.textContent = "outside the scan");
    const position = positionOf(this.scan.matrix, index).map((value, at) => `${"xyz"[at]} ${value.toFixed(1)}`).join("  ");
    const voxel = index.map((value, axis) => `${AXES[axis]} ${Math.floor(value + 0.5)}`).slice(this.scan.flat ? 1 : 0).join(" ");
    const row = this.rows[0] ?? {values: {}};
    const read = Object.entries(row.values).map(([name, key]) => {
      const grid = this.grid(key);
      return `${name} ${grid ? valueText(grid, grid.at(index)) : "…"}`;
    });
    const probability = read.pop();
    const maps = read.length ? [`${row.reading}: ${read.join("  ")}`] : [];
    this.status.textContent = [
      `${this.hovered ? "mouse" : "point"}: ${position} mm (LPS)`, `voxel ${voxel} (from 0)`, `image ${digits(grey)}`, probability, ...maps,
    ].filter(Boolean).join("  ·  ");
  }

  redraw() {
    this.askedAt ??= performance.now();
    if (this.pending || !this.panes) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = undefined;
      this.draw();
    });
  }

  draw() {
    if (!this.root.isConnected) return;
    const seen = this.panes.filter(pane => pane.canvas.clientWidth > 0);
    const fits = seen.filter(pane => pane instanceof SlicePane).map(({canvas, axes: [down, across]}) => Math.min(
      canvas.clientHeight / (this.scan.shape[down] * this.scan.spacing[down]),
      canvas.clientWidth / (this.scan.shape[across] * this.scan.spacing[across])));
    const pixelsPerMm = 0.97 * this.view.zoom * Math.min(...fits);
    for (const pane of seen) pane.draw(pixelsPerMm);
    this.drawStrips();
    this.controls.refresh();
    this.showStatus();
    const {dataset} = this.root;
    dataset.point = this.view.point.join(" ");
    dataset.ms = (performance.now() - this.askedAt).toFixed(1);
    dataset.drawn = Number(dataset.drawn ?? 0) + 1;
    this.askedAt = undefined;
  }

  drawStrips() {
    this.strips.forEach(({title, bar}, row) => {
      title.textContent = this.rows[row].title;
      const map = this.mapOf(row);
      bar.hidden = !map;
      const look = map && [map.key, this.view.colours, this.view.lower, this.view.upper, bar.clientWidth].join(" ");
      if (!map || !bar.clientWidth || bar.look === look) return;
      bar.look = look;
      const ratio = window.devicePixelRatio || 1;
      [bar.width, bar.height] = [bar.clientWidth * ratio, bar.clientHeight * ratio];
      const context = bar.getContext("2d");
      context.scale(ratio, ratio);
      drawColourBar(context, map, this.coloursOf(map), this.view, {x: 4, y: 18, width: bar.clientWidth - 8}, getComputedStyle(title).color);
      bar.setAttribute("aria-label", `colours: ${map.name}, ${map.unit}, ${digits(map.low)} to ${digits(map.high)}`);
    });
  }

  /** What is in the frame as one PNG, with its title, colours and position. */
  save() {
    const outer = this.frame.getBoundingClientRect();
    const canvas = element("canvas");
    const ratio = window.devicePixelRatio || 1;
    const context = canvas.getContext("2d");
    const small = '12px system-ui, "DejaVu Sans", sans-serif';
    this.read(null, null);
    const position = `${this.view.case}  ·  ${this.status.textContent}`;
    context.font = small;
    const foot = 24 + 16 * writeLines(context, position, 0, 0, outer.width - 12, {draw: false});
    [canvas.width, canvas.height] = [outer.width * ratio, (outer.height + foot) * ratio];
    context.scale(ratio, ratio);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, outer.width, outer.height + foot);
    for (const each of this.frame.querySelectorAll("canvas")) {
      const box = each.getBoundingClientRect();
      if (box.width && each.getAttribute("role") && each.closest(".fhx-pane")) context.drawImage(each, box.x - outer.x, box.y - outer.y, box.width, box.height);
    }
    this.strips.forEach(({title, bar}, row) => {
      const [box, map] = [title.getBoundingClientRect(), this.mapOf(row)];
      if (!box.width) return;
      context.fillStyle = "#111";
      context.font = '13px system-ui, "DejaVu Sans", sans-serif';
      writeLines(context, this.rows[row].title, box.x - outer.x + 6, box.y - outer.y + 14, box.width - 6);
      const place = bar.getBoundingClientRect();
      if (map && place.width) drawColourBar(context, map, this.coloursOf(map), this.view, {x: place.x - outer.x + 4, y: place.y - outer.y + 18, width: place.width - 8}, "#111");
    });
    context.fillStyle = "#111";
    context.font = small;
    writeLines(context, position, 6, outer.height + 16, outer.width - 12);
    context.fillText("For research only, not a medical device.", 6, outer.height + foot - 7);
    const link = element("a", {download: `${this.view.case || "scan"}.png`, href: canvas.toDataURL("image/png")});
    link.click();
  }

  say(text) {
    this.notice.textContent = text;
    this.notice.hidden = !text;
  }

  tellKernel(state) {
    if (!this.notice) return;
    this.root.dataset.kernel = state;
    this.controls.kernels.disabled = state !== "answers";
    this.say({answers: "", silent: SILENT, gone: GONE}[state]);
  }
}

/** Put an explorer where the picture of it stands; the picture stays until it is ready, and in the saved notebook. */
function enhance(model, kernel, place) {
  place.dataset.explorer = "starting";
  const explorer = new Explorer(model, kernel);
  explorer.start().then(() => {
    place.dataset.explorer = "ready";
    place.append(explorer.root);
    place.querySelector("img").hidden = true;
    explorer.redraw();
  }).catch(() => { place.dataset.explorer = "picture"; });
}

export default () => {
  let kernel;
  return {
    initialize({model, signal}) {
      kernel = new Kernel(model, signal);
      const look = () => {
        for (const place of document.querySelectorAll(`.fhx-place-${model.get("place")}:not([data-explorer])`)) enhance(model, kernel, place);
      };
      const watcher = new MutationObserver(look);
      watcher.observe(document.body, {childList: true, subtree: true});
      signal?.addEventListener("abort", () => watcher.disconnect());
      look();
    },
    render({model, el}) {
      const explorer = new Explorer(model, kernel ??= new Kernel(model));
      explorer.start().then(() => { el.append(explorer.root); explorer.redraw(); });
    },
  };
};

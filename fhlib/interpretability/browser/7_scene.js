// What is shown: the scan, the maps over it, contours and surfaces, and the choices that lead to them.

const KEPT_GRIDS = 24;
const SMALLEST = 1e-7;

/** The data of one explorer. What is drawn, and how, is `Explorer`'s. */
class Scene {
  constructor(model, kernel) {
    [this.model, this.kernel, this.grids] = [model, kernel, new Map()];
    [this.rows, this.contours, this.options, this.idle] = [[], [], {}, []];
    model.on("change:view", () => this.follow());
  }

  takeScan({answer, buffers}) {
    this.scan = new Grid(answer.scan, buffers[0]);
    this.case = answer.view.case;
    [this.luts, this.view, this.measured] = [answer.luts, {...answer.view, zoom: 1}, null];
    this.view.centre = this.scan.shape.map((count, axis) => (count - 1) / 2 * this.scan.spacing[axis]);
    this.grids.clear();
  }

  async fetchRows() {
    const choices = Object.fromEntries(OF_THE_KERNEL.map(name => [name, this.view[name]]));
    try {
      const {answer} = await this.kernel.ask("rows", {choices});
      Object.assign(this.view, answer.choices);
      [this.rows, this.contours, this.options, this.idle] = [answer.rows, answer.contours, answer.options, answer.idle];
      const first = this.rows[0]?.key ?? "";
      if (first !== this.first) [this.first, this.view.lower, this.view.upper] = [first, null, null];
      this.buildFrame();
      this.tell();
    } catch (error) {
      this.say(error.message);
    }
    this.redraw();
  }

  /** A grid that is loaded; else null, and it comes. */
  grid(key) {
    if (!key) return null;
    const known = this.grids.get(key);
    if (known !== undefined) return known;
    this.grids.set(key, null);
    this.kernel.ask("grid", {key}).then(({answer, buffers}) => {
      this.forget();
      this.grids.set(key, new Grid(answer.grid, buffers[0]));
      this.redraw();
    }).catch(error => { this.grids.delete(key); if (this.kernel.state === "answers") this.say(error.message); });
    return null;
  }

  mesh(key) {
    if (!key) return null;
    const name = `surface of ${key}`;
    if (this.grids.has(name)) return this.grids.get(name);
    this.grids.set(name, null);
    this.kernel.ask("surface", {key}).then(({answer, buffers}) => {
      const vertices = numbers("float32", buffers[0]);
      this.grids.set(name, vertices.length ? new Mesh(vertices, numbers("uint32", buffers[1]), this.scan.spacing) : {empty: answer.said});
      this.redraw();
    }).catch(() => this.grids.delete(name));
    return null;
  }

  /** Drop what has not been shown for longest; maps of full-size scans are large. */
  forget() {
    const shown = new Set([...this.rows.flatMap(row => [row.key, ...Object.values(row.values)]), ...this.contours.map(line => line.key)]);
    for (const key of this.grids.keys()) {
      if (this.grids.size < KEPT_GRIDS) return;
      if (!shown.has(key) && !key.startsWith("surface of ")) this.grids.delete(key);
    }
  }

  mapOf(row) {
    return this.grid(this.rows[row]?.key);
  }

  coloursOf(map) {
    return this.luts[this.view.colours === "automatic" ? map.colours : this.view.colours];
  }

  contoursOf() {
    const shown = this.contours.filter(line => this.view.outlines.includes(line.role));
    return shown.map(line => ({...line, grid: this.grid(line.key)})).filter(line => line.grid);
  }

  /** The surface that a row's model found, and the reference as a ghost where its contour is shown. */
  meshesOf(row) {
    const found = this.contours.find(line => line.role === this.rows[row].role);
    const truth = this.contours.find(line => line.role === "reference" && this.view.outlines.includes("reference"));
    const mesh = this.mesh(found?.key);
    if (mesh?.empty) return {meshes: [], said: mesh.empty};
    const meshes = mesh ? [{mesh, key: found.key, rgb: rgbOf(found.colour), opacity: 1}] : [];
    const ghost = truth ? this.mesh(truth.key) : null;
    if (ghost && !ghost.empty) meshes.push({mesh: ghost, key: truth.key, rgb: rgbOf(truth.colour), opacity: 0.4});
    const said = mesh ? `surface found${ghost ? ", reference as ghost" : ""}` : "surface …";
    return {meshes, said};
  }

  choose(changes) {
    Object.assign(this.view, changes);
    if ("case" in changes) return this.changeCase(changes.case);
    if (OF_THE_KERNEL.some(name => name in changes)) return this.fetchRows();
    this.tell();
    this.redraw();
  }

  async changeCase(name) {
    [this.bar.hidden, this.bar.value, this.loading] = [false, 0, true];
    try {
      this.takeScan(await this.kernel.ask("case", {case: name, progress: done => { this.bar.value = done; }}));
    } catch (error) {
      this.view.case = this.case;
      this.say(error.message);
    }
    [this.bar.hidden, this.loading] = [true, false];
    await this.fetchRows();
  }

  outline(role, on) {
    const others = this.view.outlines.filter(one => one !== role);
    this.choose({outlines: on ? [...others, role] : others});
  }

  /** Python learns the view, so that `static()` and `view` are the picture that is seen. */
  tell() {
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      const {zoom, centre, ...view} = this.view;
      this.told = JSON.stringify(view);
      try {
        this.model.set("view", view);
        this.model.save_changes();
      } catch {
        this.kernel.become("gone");
      }
    }, 150);
  }

  /** The view was set in Python. */
  follow() {
    const view = this.model.get("view");
    if (!this.scan || this.loading || JSON.stringify(view) === this.told || view.case !== this.view.case) return;
    this.told = JSON.stringify(view);
    Object.assign(this.view, view);
    this.fetchRows();
  }
}

/** A map's value in digits; on a logarithmic scale what half precision cannot tell from 0 is called that. */
function valueText(grid, value) {
  return grid.log && value !== null && value < SMALLEST ? `< ${digits(SMALLEST)}` : digits(value);
}

function rgbOf(colour) {
  return [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
}

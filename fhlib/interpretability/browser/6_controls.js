// The controls beside the planes.

const OF_THE_KERNEL = ["case", "model", "beside", "overlay", "module", "summary", "strongest"];

class Controls {
  constructor(explorer) {
    this.explorer = explorer;
    this.inputs = {};
    this.lists = {};
    this.kernels = element("fieldset", {}, element("legend", {text: "What is shown"}));
    for (const [name, label] of Object.entries({case: "scan", model: "model", beside: "beside it", overlay: "map", module: "module", summary: "channels"})) {
      this.kernels.append(this.list(name, label));
    }
    this.kernels.append(this.number("strongest", "k of top-k"));
    this.look = element("fieldset", {}, element("legend", {text: "How it looks"}),
      this.list("colours", "colours"), this.slide("opacity", "opacity", 0, 1, 0.05),
      this.slide("lower", "hide below", 0, 1, 0.005), this.slide("upper", "hide above", 0, 1, 0.005),
      this.tick("fading", "low values transparent"), this.tick("smooth", "map drawn smooth"),
      this.slide("black", "black at", 0, 1, 0.005), this.slide("white", "white at", 0, 1, 0.005));
    this.lines = element("fieldset", {}, element("legend", {text: "Contours"}));
    this.slices = element("fieldset", {}, element("legend", {text: "Slices"}));
    this.tools = element("div", {className: "fhx-tools"},
      this.button("−", "zoom out", () => explorer.zoom(1 / KEY_ZOOM)), this.button("+", "zoom in", () => explorer.zoom(KEY_ZOOM)),
      this.button("all", "show all", () => explorer.whole()),
      this.measure = this.button("ruler", "measure: drag on a plane", () => explorer.toggleRuler()),
      this.button("save", "save this view as PNG", () => explorer.save()));
    this.measure.setAttribute("aria-pressed", "false");
    this.root = element("div", {className: "fhx-controls"}, this.tools, this.kernels, this.look, this.lines, this.slices);
  }

  labelled(label, ...inputs) {
    return element("label", {className: "fhx-row"}, element("span", {text: label}), ...inputs);
  }

  list(name, label) {
    const select = this.inputs[name] = element("select", {name});
    select.addEventListener("change", () => this.explorer.choose({[name]: select.value}));
    return this.labelled(label, select);
  }

  number(name, label) {
    const input = this.inputs[name] = element("input", {name, type: "number", min: 1, value: 3});
    input.addEventListener("change", () => this.explorer.choose({[name]: Number(input.value)}));
    return this.labelled(label, input);
  }

  slide(name, label, min, max, step) {
    const input = this.inputs[name] = element("input", {name, type: "range", min, max, step});
    const said = input.said = element("output", {});
    input.addEventListener("input", () => this.explorer.choose(this.fromSlide(name, Number(input.value))));
    return this.labelled(label, input, said);
  }

  tick(name, label, act = value => this.explorer.choose({[name]: value})) {
    const input = this.inputs[name] = element("input", {name, type: "checkbox"});
    input.addEventListener("change", () => act(input.checked));
    return element("label", {className: "fhx-tick"}, input, element("span", {text: label}));
  }

  button(text, title, act) {
    const made = element("button", {type: "button", text, title, "aria-label": title});
    made.addEventListener("click", act);
    return made;
  }

  /** What a slider's share means: a map's value for the thresholds (none at their ends), a grey level. */
  fromSlide(name, share) {
    const {explorer} = this;
    const map = explorer.mapOf(0);
    if (name === "lower") return {lower: share <= 0 || !map ? null : map.valueOf(share)};
    if (name === "upper") return {upper: share >= 1 || !map ? null : map.valueOf(share)};
    if (name === "opacity") return {opacity: share};
    const [least, most] = explorer.scan.range;
    const level = least + share * (most - least);
    const [black, white] = explorer.view.window;
    return {window: name === "black" ? [Math.min(level, white), white] : [black, Math.max(level, black)]};
  }

  /** Show the view's choices, and which of them count. */
  refresh() {
    const {view, options, scan, rows} = this.explorer;
    if (!options.case) return;  // the kernel has not answered yet
    for (const [name, choices] of Object.entries(options)) {
      this.offer(this.inputs[name], choices, view[name]);
      this.inputs[name].disabled = !choices.length || this.explorer.idle.includes(name);
    }
    for (const name of ["fading", "smooth"]) this.inputs[name].checked = view[name];
    this.inputs.strongest.value = view.strongest;
    this.inputs.strongest.closest("label").hidden = view.summary !== "top" || this.inputs.summary.disabled;
    this.inputs.case.closest("label").hidden = options.case.length < 2;
    const map = this.explorer.mapOf(0);
    const shares = {
      opacity: view.opacity, lower: view.lower === null || !map ? 0 : map.shade(view.lower), upper: view.upper === null || !map ? 1 : map.shade(view.upper),
      black: (view.window[0] - scan.range[0]) / (scan.range[1] - scan.range[0]), white: (view.window[1] - scan.range[0]) / (scan.range[1] - scan.range[0]),
    };
    const said = {
      opacity: digits(view.opacity), lower: view.lower === null ? "off" : digits(view.lower), upper: view.upper === null ? "off" : digits(view.upper),
      black: digits(view.window[0]), white: digits(view.window[1]),
    };
    for (const [name, share] of Object.entries(shares)) {
      this.inputs[name].value = share;
      this.inputs[name].said.textContent = said[name];
      this.inputs[name].setAttribute("aria-valuetext", said[name]);
    }
    for (const name of ["opacity", "lower", "upper", "fading", "smooth", "colours"]) this.inputs[name].disabled = !rows.some(row => row.key);
    this.refreshLines();
    this.refreshSlices();
  }

  offer(select, choices, chosen) {
    const text = JSON.stringify(choices);
    if (this.lists[select.name] !== text) {
      this.lists[select.name] = text;
      select.replaceChildren(...choices.map(([label, value]) => element("option", {value, text: label})));
    }
    select.value = chosen;
  }

  refreshLines() {
    const {view, contours} = this.explorer;
    const text = JSON.stringify([contours, view.outlines]);
    if (this.drawnLines === text) return;
    this.drawnLines = text;
    const ticks = contours.map(({role, name, colour}) => {
      const tick = this.tick(`contour ${role}`, name, on => this.explorer.outline(role, on));
      tick.firstChild.checked = view.outlines.includes(role);
      tick.lastChild.style.borderBottomColor = colour;
      tick.lastChild.className = "fhx-line";
      return tick;
    });
    this.lines.replaceChildren(this.lines.firstChild, ...ticks);
  }

  refreshSlices() {
    const {view, scan} = this.explorer;
    this.slices.hidden = scan.flat;
    if (this.sliced !== scan.key) {
      this.sliced = scan.key;
      const rows = scan.shape.map((count, axis) => {
        const input = this.inputs[AXES[axis]] = element("input", {name: AXES[axis], type: "range", min: 0, max: count - 1, step: 1});
        input.said = element("output", {});
        input.addEventListener("input", () => {
          const point = [...this.explorer.view.point];
          point[axis] = Number(input.value);
          this.explorer.pointTo(point);
        });
        return this.labelled(`slice ${AXES[axis]}`, input, input.said);
      });
      this.slices.replaceChildren(this.slices.firstChild, ...rows);
    }
    for (let axis = 0; axis < 3; axis++) {
      const input = this.inputs[AXES[axis]];
      input.value = view.point[axis];
      input.said.textContent = view.point[axis] + 1;
    }
  }
}

// Planes painted: the scan in grey, a map over it, contours, the colour bar.

/** A canvas that is not on the page, with its pixels. */
function sheet(rows, columns) {
  const canvas = document.createElement("canvas");
  [canvas.height, canvas.width] = [rows, columns];
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  return {canvas, pixels: image.data, done: () => (context.putImageData(image, 0, 0), canvas)};
}

/** A plane of the scan between two grey levels. The loop stands here, not in `visitPlane`: it runs over the most voxels. */
function paintGrey(scan, cut, own, [black, white]) {
  const [down, across] = keptAxes(cut);
  const [rows, columns] = [scan.shape[down], scan.shape[across]];
  const {pixels, done} = sheet(rows, columns);
  const whole = new Uint32Array(pixels.buffer);  // red, green, blue and opacity at once
  const gain = 255 / Math.max(white - black, 1e-9);
  const {raw, strides} = scan;
  for (let row = 0, to = 0; row < rows; row++) {
    let from = own * strides[cut] + row * strides[down];
    for (let column = 0; column < columns; column++, to++, from += strides[across]) {
      const grey = (raw[from] - black) * gain;
      whole[to] = 0xff000000 | (0x010101 * (grey < 0 ? 0 : grey > 255 ? 255 : grey + 0.5 | 0));
    }
  }
  return done();
}

/** A plane of a map at its own resolution; clear where the thresholds hide it, and with `fading` where it is low. */
function paintMap(grid, cut, own, colours, {opacity, fading, lower, upper}) {
  const [down, across] = keptAxes(cut);
  const {pixels, done} = sheet(grid.shape[down], grid.shape[across]);
  const [least, most] = [lower ?? -Infinity, upper ?? Infinity];
  grid.visitPlane(cut, own, (value, place) => {
    if (!(value >= least && value <= most)) return;
    const share = grid.shade(value);
    const colour = 3 * Math.min(255, Math.floor(256 * share));
    const strength = !fading ? 1 : grid.signed ? Math.abs(2 * share - 1) : share;
    pixels[4 * place] = colours[colour];
    pixels[4 * place + 1] = colours[colour + 1];
    pixels[4 * place + 2] = colours[colour + 2];
    pixels[4 * place + 3] = 255 * opacity * strength;
  });
  return done();
}

/** Draw a plane of a grid where it lies. `place(axis, index)` gives pixels for the scan's index. */
function drawPlane(context, grid, cut, canvas, place, smooth) {
  const [down, across] = keptAxes(cut);
  const [top, bottom] = [-0.5, grid.shape[down] - 0.5].map(own => place(down, grid.onScan(down, own)));
  const [left, right] = [-0.5, grid.shape[across] - 0.5].map(own => place(across, grid.onScan(across, own)));
  const low = place(down, grid.onScan(down, grid.extent[down] - 0.5));
  const far = place(across, grid.onScan(across, grid.extent[across] - 0.5));
  context.save();
  context.beginPath();
  context.rect(left, top, far - left, low - top);  // what lies beyond is the network's padding
  context.clip();
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "medium";
  context.drawImage(canvas, left, top, right - left, bottom - top);
  context.restore();
}

function drawContour(context, grid, cut, segments, place, colour, thickness) {
  const [down, across] = keptAxes(cut);
  for (const [ink, width] of [["rgba(0,0,0,.55)", thickness + 1.6], [colour, thickness]]) {
    context.strokeStyle = ink;
    context.lineWidth = width;
    context.lineCap = "round";
    context.beginPath();
    for (let at = 0; at < segments.length; at += 4) {
      const [row, column, toRow, toColumn] = segments.slice(at, at + 4);
      context.moveTo(place(across, grid.onScan(across, column)), place(down, grid.onScan(down, row)));
      context.lineTo(place(across, grid.onScan(across, toColumn)), place(down, grid.onScan(down, toRow)));
    }
    context.stroke();
  }
}

/** Text with a dark rim, legible on any image. */
function write(context, text, x, y, {align = "left", size = 12, colour = "#fff"} = {}) {
  context.font = `${size}px system-ui, "DejaVu Sans", sans-serif`;
  context.textAlign = align;
  context.lineWidth = 3;
  context.lineJoin = "round";
  context.strokeStyle = "rgba(0,0,0,.8)";
  context.fillStyle = colour;
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

/** Text in lines of at most this width, from the baseline of the first; returns how many there are. */
function writeLines(context, text, x, y, width, {step = 16, draw = true} = {}) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && context.measureText(longer).width > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  if (draw) lines.forEach((line, row) => context.fillText(line, x, y + row * step, width));
  return lines.length;
}

/** A bar of a round length in the lower left. */
function drawScaleBar(context, pixelsPerMm, height, width) {
  const lengths = [100, 50, 20, 10, 5, 2, 1, 0.5];
  const length = lengths.find(mm => mm * pixelsPerMm < 0.4 * width) ?? 0.2;
  const [left, base] = [10, height - 12];
  for (const [ink, thickness] of [["rgba(0,0,0,.7)", 5], ["#fff", 2.5]]) {
    context.strokeStyle = ink;
    context.lineWidth = thickness;
    context.beginPath();
    context.moveTo(left, base);
    context.lineTo(left + length * pixelsPerMm, base);
    context.stroke();
  }
  write(context, `${length} mm`, left, base - 7);
}

/** Where ticks stand on a colour bar: powers of ten on a logarithmic one, else five. */
function ticksOf(grid) {
  if (!grid.log) return [0, 0.25, 0.5, 0.75, 1].map(share => grid.valueOf(share));
  const ticks = [];
  for (let power = Math.ceil(Math.log10(grid.low)); power <= Math.log10(grid.high) + 1e-9; power++) ticks.push(10 ** power);
  return ticks.length > 1 ? ticks.filter((_, at) => ticks.length < 6 || at % 2 === 0) : [grid.low, grid.high];
}

/** The colour bar of a map: its name and unit, ticks, and hatching where the thresholds hide. */
function drawColourBar(context, grid, colours, {lower, upper}, box, ink) {
  const {x, y, width} = box;
  for (let at = 0; at < width; at++) {
    const value = grid.valueOf(at / (width - 1));
    const colour = 3 * Math.min(255, Math.floor(256 * at / width));
    const hidden = value < (lower ?? -Infinity) || value > (upper ?? Infinity);
    context.fillStyle = hidden ? "#999" : `rgb(${colours[colour]},${colours[colour + 1]},${colours[colour + 2]})`;
    context.fillRect(x + at, hidden ? y + 5 : y, 1, hidden ? 2 : 12);
  }
  context.font = '11px system-ui, "DejaVu Sans", sans-serif';
  context.fillStyle = ink;
  for (const tick of ticksOf(grid)) {
    const share = grid.log ? Math.log(tick / grid.low) / Math.log(grid.high / grid.low) : grid.shade(tick);
    context.fillRect(x + share * (width - 1), y + 12, 1, 4);
    context.textAlign = share < 0.1 ? "left" : share > 0.9 ? "right" : "center";
    context.fillText(digits(tick), x + share * (width - 1), y + 27);
  }
  context.textAlign = "left";
  context.fillText(`${grid.name} (${grid.unit})`, x, y - 5, width);
}

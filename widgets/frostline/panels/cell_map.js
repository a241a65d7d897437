// CellMap: one or two maps of the same cells, linked: what is pointed at or selected in one is so in the other.
//
// Python sends two things (frostline/panels/packing.py): `_facts`, what the maps show, as JSON, and `_data`, one deflated
// buffer with an array for each column of the cells. Back goes `_picked`, the positions of the selected cells. Whatever a user
// has named (cells, classes, groups) becomes text nodes or canvas text, never HTML.

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
const UNPLACED = 65535; // a coordinate or a probability that is not there
const LISTED = 50; // rows of the table of selected cells
const LEVELS = 32; // of the colours of a probability
const CROSS = 3; // a shape of INSIDE
const PADDING = 14; // CSS pixels between a map and its frame
const NARROWED = " Wide gaps between clusters are drawn narrower here; the button Narrow gaps shows them as they were computed.";

// ---------------------------------------------------------------- small things

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const counted = (n, noun = "cell") => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function rgb(text) {
  if (text.startsWith("#")) return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
  const numbers = text.match(/[\d.]+/g).map(Number);
  return text.startsWith("color") ? numbers.slice(0, 3).map((v) => 255 * v) : numbers.slice(0, 3);
}
const mixed = (a, b, share) => a.map((v, i) => Math.round(v * (1 - share) + b[i] * share));
const css = (colour) => `rgb(${colour.join(" ")})`;

// The first opaque background behind an element: a page may be dark and the ground of its outputs light.
function groundOf(element) {
  for (let e = element; e; e = e.parentElement ?? e.getRootNode().host) {
    const colour = getComputedStyle(e).backgroundColor;
    if (!colour || colour === "transparent") continue; // none has any before it is on the page
    const alpha = colour.match(/[\d.]+/g)[3];
    if (alpha === undefined || Number(alpha) > 0.5) return rgb(colour);
  }
  return [255, 255, 255];
}

// The bytes that Python deflated.
const inflated = (data) => new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();

// ---------------------------------------------------------------- the cells

class Cells {
  constructor(facts, bytes) {
    const array = (key) => {
      const [kind, start, length] = facts.arrays[key];
      return new ARRAYS[kind](bytes, start, length);
    };
    const codes = (key) => {
      const found = array(key), missing = found.BYTES_PER_ELEMENT === 1 ? 255 : 65535;
      return Int16Array.from(found, (code) => (code === missing ? -1 : code));
    };
    this.facts = facts;
    this.n = facts.n;
    this.names = facts.n ? new TextDecoder().decode(array("names")).split("\n") : [];
    this.columns = Object.fromEntries(facts.columns.map((c) => [c.key, { ...c, codes: codes(c.key) }]));
    this.truth = facts.truth ? this.columns.label.codes : null;
    this.plots = facts.views.map((plot, i) => {
      const tops = plot.tops ? codes(`tops${i}`) : null;
      const predicted = tops && Int16Array.from({ length: this.n }, (_, cell) => tops[cell * plot.tops]);
      const points = plot.placed ? array(`points${i}`) : null;
      return {
        ...plot, points, predicted, classesOf: tops,
        chances: plot.tops ? array(`chances${i}`) : null, // of the likeliest class
        others: plot.tops ? array(`others${i}`) : null, // of the next ones, in percent
        front: plot.front ? array(`front${i}`) : null,
        grid: points && new Grid(points, this.n),
        places: { [facts.narrow]: points },
        islands: plot.moves.length ? codes(`islands${i}`) : null,
      };
    });
    this.narrow = facts.narrow;
    this.gaps = this.plots.some((plot) => plot.islands); // that may be narrowed
    const names = facts.views.map((plot) => plot.name);
    this.guessed = this.plots.filter((plot, i) => plot.predicted && names.indexOf(plot.name) === i);
  }

  // Draw wide gaps narrowed, or as they were computed.
  place(narrow) {
    this.narrow = narrow;
    for (const plot of this.plots.filter((each) => each.islands)) {
      plot.points = plot.places[narrow] ??= moved(plot.points, plot.islands, plot.moves);
      plot.grid = new Grid(plot.points, this.n);
    }
  }

  confidence(plot, cell) {
    const value = plot.chances[cell];
    return value === UNPLACED ? NaN : value / 65534;
  }

  // Probability of the likeliest class, the next one, and so on.
  chance(plot, cell, place) {
    if (!place) return this.confidence(plot, cell);
    const value = plot.others[cell * (plot.tops - 1) + place - 1];
    return value === 255 ? NaN : value / 100;
  }

  isWrong(plot, cell) {
    return this.truth[cell] >= 0 && plot.predicted[cell] >= 0 && plot.predicted[cell] !== this.truth[cell];
  }

  wrong() {
    return this.where((cell) => this.guessed.some((plot) => this.isWrong(plot, cell)));
  }

  differing() {
    const [left, right] = this.guessed;
    return this.where((cell) => left.predicted[cell] !== right.predicted[cell]);
  }

  where(holds) {
    const found = [];
    for (let cell = 0; cell < this.n; cell++) if (holds(cell)) found.push(cell);
    return found;
  }

  // The most confidently wrong first, then the least confident.
  ranked(cells) {
    if (!this.guessed.length) return cells;
    const rank = new Float64Array(this.n);
    for (const cell of cells) {
      let wrong = -1, least = 2;
      for (const plot of this.guessed) {
        const p = this.confidence(plot, cell);
        if (this.truth && this.isWrong(plot, cell)) wrong = Math.max(wrong, p || 0);
        if (p < least) least = p;
      }
      rank[cell] = wrong >= 0 ? -1 - wrong : least;
    }
    return cells.slice().sort((a, b) => rank[a] - rank[b] || a - b);
  }

  // What the colours of a map mean: codes of the cells, and name, colour and shape of each code.
  paint(key, plot) {
    const { palette, classes } = this.facts;
    const looks = (names, looks) => names.map((name, i) => ({
      name,
      colour: looks[i] === -2 ? palette.strange : palette.colours[looks[i] % palette.colours.length] ?? null, // -1: grey
      shape: looks[i] === -2 ? CROSS : looks[i] < 0 ? 0 : Math.floor(looks[i] / palette.colours.length) % 3,
    }));
    if (key === "correct") {
      const codes = plot.predicted
        ? Int16Array.from(plot.predicted, (p, cell) => (p < 0 || this.truth[cell] < 0 ? -1 : +(p !== this.truth[cell])))
        : new Int16Array(this.n).fill(-1);
      return { codes, kinds: [{ name: "right", colour: palette.right, shape: 0 }, { name: "wrong", colour: palette.wrong, shape: CROSS }] };
    }
    if (key === "confidence") {
      const top = LEVELS - 1;
      const codes = new Int16Array(this.n).fill(-1);
      if (plot.chances) {
        for (let cell = 0; cell < this.n; cell++) {
          const p = this.confidence(plot, cell);
          if (p === p) codes[cell] = top - Math.round(p * top); // the doubtful ones come last, on top
        }
      }
      const colour = (i) => palette.ramp[Math.round(((top - i) / top) * (palette.ramp.length - 1))];
      return { codes, ramp: true, kinds: Array.from({ length: LEVELS }, (_, i) => ({ colour: colour(i), shape: 0 })) };
    }
    if (key === "prediction") {
      return { codes: plot.predicted ?? new Int16Array(this.n).fill(-1), kinds: looks(classes, this.facts.looks) };
    }
    const column = this.columns[key];
    return { codes: column.codes, kinds: looks(column.names, column.looks) };
  }
}

// Coordinates with each island moved, from the smallest to the largest of each axis.
function moved(points, islands, moves) {
  const found = new Uint16Array(points.length).fill(UNPLACED);
  for (const axis of [0, 1]) {
    const at = (cell) => points[2 * cell + axis] / 65534 + moves[islands[cell]][axis];
    let low = Infinity, high = -Infinity;
    for (let cell = 0; cell < islands.length; cell++) {
      if (islands[cell] >= 0) [low, high] = [Math.min(low, at(cell)), Math.max(high, at(cell))];
    }
    for (let cell = 0; cell < islands.length; cell++) {
      if (islands[cell] >= 0) found[2 * cell + axis] = Math.round((65534 * (at(cell) - low)) / (high - low || 1));
    }
  }
  return found;
}

// Cells by the square of the plane that they lie in, so that the one under the pointer is found at once.
class Grid {
  constructor(points, n) {
    this.points = points;
    this.side = Math.max(1, Math.ceil(Math.sqrt(n / 2)));
    this.starts = new Uint32Array(this.side ** 2 + 1);
    const squares = new Uint32Array(n);
    for (let cell = 0; cell < n; cell++) {
      squares[cell] = this.square(points[2 * cell]) + this.side * this.square(points[2 * cell + 1]);
      this.starts[squares[cell] + 1] += 1;
    }
    for (let i = 0; i < this.side ** 2; i++) this.starts[i + 1] += this.starts[i];
    const next = this.starts.slice();
    this.cells = new Uint32Array(n);
    for (let cell = 0; cell < n; cell++) this.cells[next[squares[cell]]++] = cell;
  }

  square(coordinate) {
    return Math.min(this.side - 1, Math.floor((coordinate / UNPLACED) * this.side));
  }

  // The nearest cell within some distance on either axis; -1 where there is none.
  nearest(x, y, reachX, reachY) {
    let found = -1, least = 1;
    const clip = (v) => clamp(v, 0, UNPLACED);
    for (let row = this.square(clip(y - reachY)); row <= this.square(clip(y + reachY)); row++) {
      for (let column = this.square(clip(x - reachX)); column <= this.square(clip(x + reachX)); column++) {
        const at = row * this.side + column;
        for (let i = this.starts[at]; i < this.starts[at + 1]; i++) {
          const cell = this.cells[i], px = this.points[2 * cell], py = this.points[2 * cell + 1];
          const distance = ((px - x) / reachX) ** 2 + ((py - y) / reachY) ** 2;
          if (distance < least && px !== UNPLACED) [found, least] = [cell, distance];
        }
      }
    }
    return found;
  }
}

// ---------------------------------------------------------------- markers

// Whether a point lies in a marker of radius r: circle, square, triangle, cross.
const INSIDE = [
  (x, y, r) => x * x + y * y <= r * r,
  (x, y, r) => Math.max(Math.abs(x), Math.abs(y)) <= 0.88 * r,
  (x, y, r) => y <= 0.62 * r && 1.73 * Math.abs(x) <= y + 1.24 * r,
  (x, y, r) => Math.abs(Math.abs(x) - Math.abs(y)) <= 0.5 * r && Math.max(Math.abs(x), Math.abs(y)) <= r,
];

const STAMPS = new Map(); // those that were made; both maps need the same

// The pixels of a marker: where they are, how much they cover, and their colour.
function stampOf(...look) {
  const key = look.join();
  if (STAMPS.size > 2000) STAMPS.clear();
  if (!STAMPS.has(key)) STAMPS.set(key, newStamp(...look));
  return STAMPS.get(key);
}

function newStamp(shape, radius, colour, rim, rimWidth) {
  const reach = Math.ceil(1.3 * radius) + 1, pixels = [], fine = 4;
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      let outer = 0, inner = 0;
      for (let i = 0; i < fine * fine; i++) {
        const px = x + ((i % fine) + 0.5) / fine - 0.5, py = y + (Math.floor(i / fine) + 0.5) / fine - 0.5;
        outer += INSIDE[shape](px, py, radius);
        inner += INSIDE[shape](px, py, radius - rimWidth);
      }
      if (outer) pixels.push(x, y, Math.round((256 * outer) / fine ** 2), ...mixed(rim, colour, inner / outer));
    }
  }
  return { reach, pixels: Int16Array.from(pixels) };
}

function stampOn(image, width, height, stamp, x, y) {
  if (x < stamp.reach || y < stamp.reach || x >= width - stamp.reach || y >= height - stamp.reach) return;
  const { pixels } = stamp;
  for (let i = 0; i < pixels.length; i += 6) {
    const at = 4 * ((y + pixels[i + 1]) * width + x + pixels[i]), cover = pixels[i + 2];
    image[at] += ((pixels[i + 3] - image[at]) * cover) >> 8;
    image[at + 1] += ((pixels[i + 4] - image[at + 1]) * cover) >> 8;
    image[at + 2] += ((pixels[i + 5] - image[at + 2]) * cover) >> 8;
  }
}

// ---------------------------------------------------------------- one map

class Plot {
  constructor(owner, number) {
    this.owner = owner;
    this.number = number;
    this.canvas = make("canvas", { className: "frostline-map-cells" });
    this.over = make("canvas", {
      className: "frostline-map-over", tabIndex: 0, role: "application", "aria-roledescription": "map of cells",
    });
    this.title = make("div", { className: "frostline-map-title" });
    this.frame = make("div", { className: "frostline-map-frame" }, this.canvas, this.over);
    this.element = make("div", { className: "frostline-map-plot" }, this.title, this.frame);
    this.home();
    this.listen();
  }

  home() {
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
  }

  get data() {
    return this.owner.cells.plots[this.number];
  }

  // Pixels of the canvas from coordinates of the data, and back to those from CSS pixels.
  scale() {
    const { width, height } = this.size, { zoom, x, y } = this.view, { ratio } = this;
    const across = (width - 2 * PADDING) * zoom * ratio, down = (height - 2 * PADDING) * zoom * ratio;
    return {
      across, down,
      left: (width * ratio) / 2 - x * across,
      top: (height * ratio) / 2 + y * down,
    };
  }

  place(cell, s = this.scale()) {
    const { points } = this.data;
    return [s.left + (points[2 * cell] / 65534) * s.across, s.top - (points[2 * cell + 1] / 65534) * s.down];
  }

  fit() {
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    this.size = { width: this.frame.clientWidth, height: this.frame.clientHeight };
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.round(this.size.width * this.ratio);
      canvas.height = Math.round(this.size.height * this.ratio);
    }
  }

  radius() {
    const { width, height } = this.size;
    const crowd = this.owner.cells.n || 1;
    return clamp(0.34 * Math.sqrt((width * height) / crowd), 1.5, 4.6) * Math.min(2, Math.sqrt(this.view.zoom)) * this.ratio;
  }

  repaint() {
    const { cells, colour } = this.owner;
    this.paint = cells.paint(colour, this.data);
    const { codes, kinds, ramp } = this.paint;
    const sizes = new Uint32Array(kinds.length + 1);
    for (let cell = 0; cell < cells.n; cell++) sizes[codes[cell] + 1] += 1;
    // Grey ones first, then the largest kinds, so that small ones lie on top; probabilities and right or wrong in order.
    const order = Array.from(kinds.keys());
    if (!ramp && colour !== "correct") order.sort((a, b) => sizes[b + 1] - sizes[a + 1]);
    order.sort((a, b) => +(kinds[a].colour !== null) - +(kinds[b].colour !== null));
    let start = sizes[0];
    const next = new Uint32Array(kinds.length + 1);
    for (const kind of order) [next[kind + 1], start] = [start, start + sizes[kind + 1]];
    this.order = new Uint32Array(cells.n);
    for (let cell = 0; cell < cells.n; cell++) this.order[next[codes[cell] + 1]++] = cell;
  }

  draw() {
    if (!this.size?.width || !this.data) return;
    const { owner, canvas } = this, { cells, theme, picked, nPicked } = owner;
    const context = canvas.getContext("2d"), { width, height } = canvas;
    if (!this.data.points) {
      context.clearRect(0, 0, width, height);
      context.fillStyle = css(theme.text);
      context.font = `${13 * this.ratio}px sans-serif`;
      context.textAlign = "center";
      context.fillText("NA: no map of these cells", width / 2, height / 2);
      this.drawOver();
      return;
    }
    const { kinds, codes } = this.paint, radius = this.radius(), rimWidth = radius > 2.2 * this.ratio ? 0.7 * this.ratio : 0;
    const grey = mixed(theme.ground, theme.text, 0.32);
    const stamps = (fade) => kinds.map(({ colour, shape }) => {
      const full = colour ? rgb(colour) : grey;
      const shown = mixed(full, theme.ground, fade);
      return stampOf(shape, colour ? radius : 0.75 * radius, shown, mixed(shown, theme.text, fade ? 0 : 0.4), rimWidth);
    });
    const back = stampOf(0, 0.7 * radius, mixed(theme.ground, theme.text, 0.18), theme.ground, 0);
    const image = context.createImageData(width, height), s = this.scale(), { points, front } = this.data;
    const [red, green, blue] = theme.ground;
    new Uint32Array(image.data.buffer).fill(((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0);
    const pass = (found, holds) => {
      for (const cell of this.order) {
        if (points[2 * cell] === UNPLACED || !holds(cell)) continue;
        const x = Math.round(s.left + (points[2 * cell] / 65534) * s.across);
        const y = Math.round(s.top - (points[2 * cell + 1] / 65534) * s.down);
        stampOn(image.data, width, height, codes[cell] < 0 || (front && !front[cell]) ? back : found[codes[cell]], x, y);
      }
    };
    if (front) pass(stamps(0), (cell) => !front[cell]);
    const shown = (cell) => !front || front[cell];
    if (nPicked) {
      pass(stamps(0.72), (cell) => shown(cell) && !picked[cell]);
      pass(stamps(0), (cell) => shown(cell) && picked[cell]);
    } else pass(stamps(0), shown);
    context.putImageData(image, 0, 0);
    this.drawNames(context, s);
    this.drawOver();
  }

  // ---- names on the map

  // Codes that are written on the map: of the colours where these are kinds, else of the classes.
  named() {
    const { cells, colour } = this.owner;
    if (!["correct", "confidence"].includes(colour)) return this.paint;
    const key = cells.columns.label ? "label" : cells.guessed.length ? "prediction" : null;
    return key && cells.paint(key, this.data);
  }

  drawNames(context, s) {
    const found = this.named();
    if (!found) return;
    const { cells, theme } = this.owner, { ratio } = this, { width, height } = this.canvas, { points, front } = this.data;
    const members = found.kinds.map(() => []), bin = 8 * ratio, columns = Math.ceil(width / bin);
    const crowd = new Uint16Array(columns * Math.ceil(height / bin));
    for (let cell = 0; cell < cells.n; cell++) {
      if (points[2 * cell] === UNPLACED || (front && !front[cell])) continue;
      const x = s.left + (points[2 * cell] / 65534) * s.across, y = s.top - (points[2 * cell + 1] / 65534) * s.down;
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      crowd[Math.floor(y / bin) * columns + Math.floor(x / bin)] += 1;
      if (found.codes[cell] >= 0) members[found.codes[cell]].push(x, y);
    }
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.textAlign = "center";
    context.lineJoin = "round";
    const taken = [], dear = clamp(400 / cells.n, 0.5, 6); // what hiding a cell costs: among few it is missed
    const inOrder = members.map((_, kind) => kind).filter((kind) => members[kind].length);
    inOrder.sort((a, b) => members[b].length - members[a].length);
    for (const kind of inOrder) {
      const text = shortened(found.kinds[kind].name, 24), home = middle(members[kind]);
      const box = [context.measureText(text).width + 6 * ratio, 15 * ratio];
      const place = cheapest(home, box, taken, crowd, dear, columns, bin, width, height, ratio);
      if (!place) continue; // the legend and the pointer name it
      taken.push([...place, ...box]);
      const [x, y] = place;
      if (Math.hypot(x - home[0], y - home[1]) > 20 * ratio) {
        const edge = [clamp(home[0], x - box[0] / 2, x + box[0] / 2), clamp(home[1], y - box[1] / 2, y + box[1] / 2)];
        for (const [colour, line] of [[theme.ground, 2.6], [theme.text, 1]]) {
          context.strokeStyle = css(colour);
          context.lineWidth = line * ratio;
          context.beginPath();
          context.moveTo(...home);
          context.lineTo(...edge);
          context.stroke();
        }
      }
      context.strokeStyle = css(theme.ground);
      context.lineWidth = 3.5 * ratio;
      context.strokeText(text, x, y);
      context.fillStyle = css(theme.text);
      context.fillText(text, x, y);
    }
  }

  // ---- what lies over the cells: what is pointed at, the lasso

  drawOver() {
    const { over, ratio } = this, { theme, pointed, cursor } = this.owner;
    const context = over.getContext("2d");
    context.clearRect(0, 0, over.width, over.height);
    if (!this.data?.points) return;
    for (const [cell, wide] of [[cursor, 2.5], [pointed, 2]]) {
      if (cell < 0 || this.data.points[2 * cell] === UNPLACED) continue;
      const [x, y] = this.place(cell);
      for (const [colour, line] of [[theme.ground, wide + 2], [theme.text, wide]]) {
        context.strokeStyle = css(colour);
        context.lineWidth = line * ratio;
        context.beginPath();
        context.arc(x, y, this.radius() + 4 * ratio, 0, 7);
        context.stroke();
      }
    }
    if (this.lasso) {
      context.strokeStyle = css(theme.text);
      context.fillStyle = `rgb(${theme.text.join(" ")} / 0.12)`;
      context.setLineDash([5 * ratio, 4 * ratio]);
      context.lineWidth = 1.5 * ratio;
      context.beginPath();
      for (const [x, y] of this.lasso) context.lineTo(x * ratio, y * ratio);
      context.closePath();
      context.fill();
      context.stroke();
      context.setLineDash([]);
    }
  }

  // ---- pointing, lasso, moving, zooming

  // CSS pixels of an event within the map.
  at(event) {
    const box = this.over.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * this.size.width) / box.width,
      ((event.clientY - box.top) * this.size.height) / box.height,
    ];
  }

  under([x, y]) {
    if (!this.data.points) return -1;
    const s = this.scale(), { ratio } = this, reach = 12 * ratio;
    const dataX = ((x * ratio - s.left) / s.across) * 65534, dataY = ((s.top - y * ratio) / s.down) * 65534;
    return this.data.grid.nearest(dataX, dataY, (reach / s.across) * 65534, (reach / s.down) * 65534);
  }

  listen() {
    const { over, owner } = this;
    let drag = null;
    over.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      over.focus({ preventScroll: true });
      over.setPointerCapture(event.pointerId);
      const moves = owner.tool === "move" || event.button === 1;
      drag = { from: this.at(event), view: { ...this.view }, moves, adds: event.shiftKey || event.ctrlKey || event.metaKey };
      event.preventDefault();
    });
    over.addEventListener("pointermove", (event) => {
      const at = this.at(event);
      if (!drag) return owner.point(this.under(at), event);
      const [dx, dy] = [at[0] - drag.from[0], at[1] - drag.from[1]];
      if (drag.moves) {
        const s = this.scale();
        this.look({ ...drag.view, x: drag.view.x - (dx * this.ratio) / s.across, y: drag.view.y + (dy * this.ratio) / s.down });
      } else if (this.lasso) {
        const [x, y] = this.lasso.at(-1);
        if (Math.hypot(at[0] - x, at[1] - y) > 3) this.lasso.push(at);
        this.drawOver();
      } else if (Math.hypot(dx, dy) > 4) {
        owner.point(-1);
        this.lasso = [drag.from, at];
      }
    });
    const ended = (event) => {
      if (!drag) return;
      const { moves, adds } = drag, { lasso } = this;
      [drag, this.lasso] = [null, null];
      this.drawOver();
      if (event.type === "pointercancel" || moves) return;
      if (lasso) owner.pick(this.within(lasso), adds);
      else {
        const cell = this.under(this.at(event));
        if (cell >= 0 && adds) owner.toggle(cell);
        else if (!adds) owner.pick(cell < 0 ? [] : [cell]);
      }
    };
    over.addEventListener("pointerup", ended);
    over.addEventListener("pointercancel", ended);
    over.addEventListener("pointerleave", () => owner.point(-1));
    over.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && over.getRootNode().activeElement !== over) return; // else the page scrolls
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), this.at(event));
    }, { passive: false });
    over.addEventListener("keydown", (event) => this.key(event));
    over.addEventListener("blur", () => owner.setCursor(-1));
  }

  within(lasso) {
    if (!this.data.points) return [];
    const s = this.scale(), { ratio } = this, { points, front } = this.data;
    const corners = lasso.map(([x, y]) => [x * ratio, y * ratio]);
    const xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    return this.owner.cells.where((cell) => {
      if (points[2 * cell] === UNPLACED || (front && !front[cell])) return false;
      const [x, y] = this.place(cell, s);
      if (x < left || x > right || y < top || y > bottom) return false;
      let inside = false;
      for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
        const [ax, ay] = corners[i], [bx, by] = corners[j];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
      }
      return inside;
    });
  }

  zoom(factor, at = [this.size.width / 2, this.size.height / 2]) {
    const zoom = clamp(this.view.zoom * factor, 1, 60), { ratio } = this, s = this.scale();
    const x = (at[0] * ratio - s.left) / s.across, y = (s.top - at[1] * ratio) / s.down;
    const change = this.view.zoom / zoom;
    this.look({ zoom, x: x + (this.view.x - x) * change, y: y + (this.view.y - y) * change });
  }

  look(view) {
    const half = 0.5 / view.zoom;
    const kept = (v) => clamp(v, half, 1 - half);
    const found = { zoom: view.zoom, x: kept(view.x), y: kept(view.y) };
    const linked = this.owner.cells.facts.same_plane ? this.owner.plots : [this];
    for (const plot of linked) {
      plot.view = { ...found };
      this.owner.later(plot);
    }
  }

  key(event) {
    const { owner } = this, step = 0.12 / this.view.zoom;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.key in ways && event.shiftKey) {
      const [x, y] = ways[event.key];
      this.look({ ...this.view, x: this.view.x + x * step, y: this.view.y + y * step });
    } else if (event.key in ways) owner.setCursor(this.neighbour(owner.cursor, ways[event.key]), this);
    else if ((event.key === " " || event.key === "Enter") && owner.cursor >= 0) owner.toggle(owner.cursor);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.look({ zoom: 1, x: 0.5, y: 0.5 });
    else if (event.key === "Escape") owner.pick([]);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) owner.pick(owner.cells.where(() => true));
    else return;
    event.preventDefault();
    event.stopPropagation(); // in a notebook, keys without a text field under them are commands
  }

  // The next cell that way; from nowhere, the one nearest to the middle of what is seen.
  neighbour(from, [wayX, wayY]) {
    const { points, front } = this.data;
    if (!points) return -1;
    const x = from < 0 ? this.view.x * 65534 : points[2 * from], y = from < 0 ? this.view.y * 65534 : points[2 * from + 1];
    let found = from, least = Infinity;
    for (let cell = 0; cell < this.owner.cells.n; cell++) {
      if (cell === from || points[2 * cell] === UNPLACED || (front && !front[cell])) continue;
      const dx = points[2 * cell] - x, dy = points[2 * cell + 1] - y;
      const ahead = dx * wayX + dy * wayY, aside = Math.abs(dx * wayY) + Math.abs(dy * wayX);
      const cost = from < 0 ? Math.hypot(dx, dy) : ahead > 0 ? ahead + 2 * aside : Infinity;
      if (cost < least) [found, least] = [cell, cost];
    }
    return found;
  }
}

// The member nearest to the median of both coordinates; of many, one of some 400.
function middle(members) {
  const step = 2 * Math.max(1, Math.floor(members.length / 800)), some = [];
  for (let i = 0; i < members.length; i += step) some.push([members[i], members[i + 1]]);
  const median = (k) => some.map((point) => point[k]).sort((a, b) => a - b)[some.length >> 1];
  const [x, y] = [median(0), median(1)];
  return some.reduce((best, point) => (distance(point, x, y) < distance(best, x, y) ? point : best));
}
const distance = (point, x, y) => Math.hypot(point[0] - x, point[1] - y);

// Where a name hides the fewest cells and stays near its class; null where it would lie on another name.
function cheapest([homeX, homeY], [width, height], taken, crowd, dear, columns, bin, right, bottom, ratio) {
  let found = null, least = Infinity;
  for (const reach of [0, 14, 26, 42, 62, 90]) {
    for (let i = 0; i < (reach ? 12 : 1); i++) {
      const x = homeX + reach * ratio * 1.5 * Math.cos((i * Math.PI) / 6), y = homeY + reach * ratio * Math.sin((i * Math.PI) / 6);
      const [left, top] = [x - width / 2, y - height / 2];
      if (left < 2 || top < 2 || left + width > right - 2 || top + height > bottom - 2) continue;
      const collides = ([tx, ty, tw, th]) => Math.abs(tx - x) < (tw + width) / 2 && Math.abs(ty - y) < (th + height) / 2;
      if (taken.some(collides)) continue;
      let cost = reach / 4;
      for (let row = Math.floor(top / bin); row <= Math.floor((top + height) / bin); row++) {
        for (let column = Math.floor(left / bin); column <= Math.floor((left + width) / bin); column++) {
          cost += dear * Math.min(3, crowd[row * columns + column] ?? 0);
        }
      }
      if (cost < least) [found, least] = [[x, y], cost];
    }
  }
  return found;
}

// ---------------------------------------------------------------- both maps and what stands round them

class CellMap {
  constructor(model, element) {
    this.model = model;
    this.root = make("div", { className: "frostline-map", role: "group" });
    element.append(this.root);
    this.tool = "lasso";
    this.pointed = this.cursor = -1;
    this.waiting = new Set(); // maps to be drawn
    this.build();
    this.load();
  }

  build() {
    this.colours = make("select");
    this.colours.style.setProperty("background-image", "none", "important"); // JupyterLab tiles it with an arrow
    this.colours.addEventListener("change", () => {
      this.model.set("colour", this.colours.value);
      this.model.save_changes();
    });
    const button = (text, title, act) => {
      const made = make("button", { type: "button", textContent: text, title });
      made.addEventListener("click", act);
      return made;
    };
    const tool = (name, text, title) => button(text, title, () => this.use(name));
    this.tools = {
      lasso: tool("lasso", "Lasso", "Draw round cells to select them; with Shift, add to the selection"),
      move: tool("move", "Move", "Drag to move the map"),
    };
    const zoomed = (factor) => () => {
      const plots = this.cells.facts.same_plane ? this.plots.slice(0, 1) : this.plots; // the others follow
      for (const plot of plots) plot.zoom(factor);
    };
    this.wrong = button("", "Cells that one of the maps predicts wrong", () => this.pick(this.cells.wrong()));
    this.differing = button("", "Cells that the two predict differently", () => this.pick(this.cells.differing()));
    this.clear = button("Clear", "Select no cell (Esc)", () => this.pick([]));
    const home = () => {
      for (const plot of this.plots) plot.home();
      this.draw();
    };
    this.gaps = button("Narrow gaps", "How far apart clusters lie means little: draw wide gaps narrower, or as they were computed", () => {
      this.cells.place(!this.cells.narrow);
      this.sayGaps();
      home();
    });
    this.bar = make(
      "div", { className: "frostline-map-bar" },
      make("label", {}, "Colour by ", this.colours),
      make("span", { className: "frostline-map-group" }, this.tools.lasso, this.tools.move),
      make(
        "span", { className: "frostline-map-group" },
        button("+", "Zoom in; with the wheel when a map has the focus, or with Ctrl", zoomed(1.5)),
        button("−", "Zoom out", zoomed(1 / 1.5)),
        button("Whole", "Show the whole maps (0)", home), this.gaps,
      ),
      make("span", { className: "frostline-map-group" }, this.wrong, this.differing, this.clear),
    );
    this.maps = make("div", { className: "frostline-map-maps" });
    this.legend = make("div", { className: "frostline-map-legend", role: "toolbar", "aria-label": "Legend" });
    this.legend.addEventListener("keydown", (event) => this.alongLegend(event));
    this.said = make("div", { className: "frostline-map-said", role: "status" });
    this.table = scrolled("Selected cells");
    this.numbers = scrolled("The maps in numbers");
    this.note = make("p", { className: "frostline-map-note" });
    this.details = make("details", {}, make("summary", { textContent: "The maps in numbers" }), this.numbers);
    this.keys = make(
      "details", {}, make("summary", { textContent: "Keys" }),
      make("p", {
        className: "frostline-map-note",
        textContent:
          "With the focus in a map: arrows go from cell to cell, Space selects or deselects it, Shift and arrows move " +
          "the map, + and − zoom, 0 shows the whole map, Ctrl+A selects all cells, Esc none. Tab goes on to the legend, " +
          "where arrows go from name to name and Enter selects its cells, and to the table of the selected cells.",
      }),
    );
    this.tip = make("div", { className: "frostline-map-tip", hidden: true, "aria-hidden": "true" });
    this.live = make("div", { className: "frostline-map-unseen", "aria-live": "polite" });
    this.root.append(
      this.bar, this.maps, this.legend, this.said, this.table, this.note, this.details, this.keys, this.tip, this.live,
    );
    this.use("lasso");
  }

  use(tool) {
    this.tool = tool;
    for (const [name, button] of Object.entries(this.tools)) button.setAttribute("aria-pressed", String(name === tool));
    this.root.dataset.tool = tool;
  }

  // ---- from Python

  async load() {
    const facts = this.model.get("_facts");
    this.root.hidden = !facts.arrays;
    if (!facts.arrays) return;
    const bytes = await inflated(this.model.get("_data"));
    if (facts !== this.model.get("_facts")) return; // other cells have come meanwhile
    this.cells = new Cells(facts, bytes);
    this.pointed = this.cursor = -1;
    this.tip.hidden = true;
    this.root.setAttribute("aria-label", facts.title);
    this.plots = facts.views.map((_, i) => new Plot(this, i));
    this.maps.replaceChildren(...this.plots.map((plot) => plot.element));
    this.maps.classList.toggle("frostline-map-pair", this.plots.length === 2);
    this.colours.replaceChildren(...facts.colourings.map(([value, text]) => make("option", { value, textContent: text })));
    this.plots.forEach((plot, i) => {
      plot.title.textContent = facts.views[i].title;
      plot.title.title = facts.views[i].title;
      plot.over.setAttribute("aria-label", `${facts.views[i].title}. ${counted(this.cells.n)}; arrows go from cell to cell.`);
    });
    const able = this.cells.truth && this.cells.guessed.length, wrong = able ? this.cells.wrong().length : 0;
    this.wrong.hidden = !able;
    this.wrong.textContent = `Select wrong (${wrong.toLocaleString("en")})`;
    this.wrong.disabled = !wrong;
    this.differing.hidden = this.cells.guessed.length < 2;
    if (!this.differing.hidden) {
      const n = this.cells.differing().length;
      this.differing.textContent = `Select where they differ (${n.toLocaleString("en")})`;
      this.differing.disabled = !n;
    }
    this.sayGaps();
    this.fillNumbers();
    this.takePicked();
    this.recolour();
    this.fit();
  }

  sayGaps() {
    const { facts, gaps, narrow } = this.cells;
    this.gaps.hidden = !gaps;
    this.gaps.setAttribute("aria-pressed", String(narrow));
    this.note.textContent = facts.note + (gaps && narrow ? NARROWED : "");
  }

  takePicked() {
    const view = this.model.get("_picked");
    const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    this.show(Array.from(new Uint32Array(bytes)).filter((cell) => cell < this.cells.n));
  }

  recolour() {
    const wanted = this.model.get("colour");
    const known = this.cells.facts.colourings.some(([key]) => key === wanted);
    this.colour = known ? wanted : this.cells.facts.colourings[0][0];
    this.colours.value = this.colour;
    for (const plot of this.plots) plot.repaint();
    this.fillLegend();
  }

  // ---- drawing

  fit() {
    const ground = groundOf(this.root.parentElement ?? this.root);
    const light = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2] > 128;
    this.theme = { ground, text: light ? [28, 28, 28] : [236, 236, 236] };
    this.root.style.setProperty("--map-ground", css(ground));
    this.root.style.setProperty("--map-text", css(this.theme.text));
    this.root.style.setProperty("--map-quiet", css(mixed(ground, this.theme.text, 0.78)));
    this.root.style.setProperty("--map-line", css(mixed(ground, this.theme.text, 0.28)));
    this.root.style.setProperty("--map-hover", css(mixed(ground, this.theme.text, 0.09)));
    if (!this.cells) return;
    for (const plot of this.plots) plot.fit();
    this.draw();
  }

  draw() {
    for (const plot of this.plots) plot.draw();
  }

  // Before the next frame, once, however often it is asked for.
  later(plot) {
    if (!this.waiting.size) {
      requestAnimationFrame(() => {
        const plots = [...this.waiting];
        this.waiting.clear();
        for (const each of plots) each.draw();
      });
    }
    this.waiting.add(plot);
  }

  // ---- what is pointed at

  point(cell, event) {
    if (cell === this.pointed && cell < 0) return;
    const changed = cell !== this.pointed;
    this.pointed = cell;
    if (changed) for (const plot of this.plots) plot.drawOver();
    if (cell < 0 || !event) {
      this.tip.hidden = true;
      return;
    }
    if (changed) this.tip.replaceChildren(...this.lines(cell));
    this.tip.hidden = false;
    const box = this.root.getBoundingClientRect(), width = this.tip.offsetWidth, height = this.tip.offsetHeight;
    const x = event.clientX - box.left, y = event.clientY - box.top;
    this.tip.style.left = `${clamp(x + 14 + width > box.width ? x - width - 14 : x + 14, 0, Math.max(0, box.width - width))}px`;
    this.tip.style.top = `${y > height + 18 ? y - height - 14 : y + 18}px`;
  }

  // What is known of a cell, a line each.
  facts(cell) {
    const { columns, guessed, facts, truth } = this.cells, found = [];
    for (const { title, names, codes } of Object.values(columns)) if (codes[cell] >= 0) found.push([title, names[codes[cell]]]);
    for (const plot of guessed) {
      if (plot.predicted[cell] < 0) continue;
      const guesses = [];
      for (let place = 0; place < plot.tops; place++) {
        const code = plot.classesOf[cell * plot.tops + place], p = this.cells.chance(plot, cell, place);
        if (code < 0) continue;
        if (guesses.length && !(p >= 0.005)) break; // shown as 0.00
        guesses.push(shortened(facts.classes[code], 60) + (p === p ? ` ${p.toFixed(2)}` : ""));
      }
      const verdict = truth && truth[cell] >= 0 ? (this.cells.isWrong(plot, cell) ? "✗ wrong: " : "✓ right: ") : "";
      found.push([plot.name, verdict + guesses.join(", ")]);
    }
    return found;
  }

  lines(cell) {
    const line = ([term, text]) => make("div", {}, make("span", { textContent: `${shortened(term, 40)}: ` }), shortened(text, 200));
    return [make("strong", { textContent: shortened(this.cells.names[cell], 80) }), ...this.facts(cell).map(line)];
  }

  setCursor(cell, plot = null) {
    this.cursor = cell;
    for (const each of this.plots) each.drawOver();
    if (cell < 0) {
      this.tip.hidden = true;
      return;
    }
    const words = this.facts(cell).map(([term, text]) => `${term}: ${shortened(text, 200)}`);
    this.live.textContent = [this.cells.names[cell], ...words, this.picked[cell] ? "selected" : "not selected"].join("; ");
    const [x, y] = plot.place(cell), box = plot.over.getBoundingClientRect();
    if (x < 0 || y < 0 || x > plot.over.width || y > plot.over.height) {
      const { points } = plot.data;
      plot.look({ ...plot.view, x: points[2 * cell] / 65534, y: points[2 * cell + 1] / 65534 });
    }
    this.tip.replaceChildren(...this.lines(cell));
    this.pointed = cell;
    this.point(cell, { clientX: box.left + x / plot.ratio, clientY: box.top + y / plot.ratio });
  }

  // ---- what is selected

  pick(cells, adds = false) {
    let chosen = cells;
    if (adds) {
      for (const cell of cells) this.picked[cell] = 1;
      chosen = this.cells.where((cell) => this.picked[cell]);
    }
    this.send(chosen);
  }

  toggle(cell) {
    this.picked[cell] ^= 1;
    this.send(this.cells.where((each) => this.picked[each]));
    if (cell === this.cursor) this.live.textContent = `${this.cells.names[cell]} ${this.picked[cell] ? "selected" : "deselected"}`;
  }

  send(cells) {
    this.model.set("_picked", new DataView(Uint32Array.from(cells).buffer)); // comes back as a change, to all views
    this.model.save_changes();
  }

  show(cells) {
    this.picked = new Uint8Array(this.cells.n);
    for (const cell of cells) this.picked[cell] = 1;
    this.nPicked = cells.length;
    this.clear.disabled = !cells.length;
    this.said.textContent = cells.length
      ? `${counted(cells.length)} of ${this.cells.n.toLocaleString("en")} selected`
      : `${counted(this.cells.n)}; none selected`;
    this.fillTable(cells);
  }

  fillTable(cells) {
    const { columns, guessed, truth } = this.cells;
    this.table.hidden = !cells.length;
    if (!cells.length) return this.table.replaceChildren();
    const shown = Object.values(columns);
    const heads = ["cell", ...shown.map((c) => c.title), ...guessed.map((plot) => plot.name)];
    const rows = this.cells.ranked(cells).slice(0, LISTED).map((cell) => {
      const texts = shown.map(({ names, codes }) => (codes[cell] < 0 ? "" : names[codes[cell]]));
      const parts = guessed.map((plot) => {
        const code = plot.predicted[cell];
        if (code < 0) return make("td");
        const p = this.cells.confidence(plot, cell), bad = truth && this.cells.isWrong(plot, cell);
        const name = shortened(this.cells.facts.classes[code], 60);
        const shown = `${bad ? "✗ " : ""}${name}${p === p ? ` ${p.toFixed(2)}` : ""}`;
        return make("td", { className: bad ? "frostline-map-wrong" : "", textContent: shown });
      });
      const row = make(
        "tr", {}, make("th", { scope: "row", textContent: shortened(this.cells.names[cell], 60) }),
        ...texts.map((text) => make("td", { textContent: shortened(text, 60), title: text })), ...parts,
      );
      row.addEventListener("pointerenter", () => this.point(cell));
      row.addEventListener("pointerleave", () => this.point(-1));
      return row;
    });
    const order = truth && guessed.length ? ", the most confidently wrong first" : guessed.length ? ", the least confident first" : "";
    const some = cells.length > LISTED ? `${LISTED} of the ${counted(cells.length, "selected cell")}` : "The selected cells";
    this.table.replaceChildren(tableOf(`${some}${order}`, heads, rows));
  }

  fillNumbers() {
    const { columns, guessed, truth, facts, n } = this.cells;
    const by = columns.label ?? Object.values(columns)[0];
    this.details.hidden = !by;
    if (!by) return;
    const judged = truth ? guessed : [];
    const count = by.names.map(() => 0), right = judged.map(() => by.names.map(() => 0));
    for (let cell = 0; cell < n; cell++) {
      if (by.codes[cell] < 0) continue;
      count[by.codes[cell]] += 1;
      judged.forEach((plot, i) => { right[i][by.codes[cell]] += plot.predicted[cell] === truth[cell]; });
    }
    const rows = by.names.map((name, i) => make(
      "tr", {}, make("th", { scope: "row", textContent: shortened(name, 60), title: name }),
      ...[count[i], ...right.map((found) => found[i])].map((value) => make("td", { textContent: value.toLocaleString("en") })),
    ));
    const heads = [by.title, "cells", ...judged.map((plot) => `right: ${plot.name}`)];
    this.numbers.replaceChildren(tableOf(facts.title, heads, rows));
  }

  fillLegend() {
    const { kinds, ramp } = this.plots[0].paint, { cells } = this;
    if (ramp) {
      const bar = make("span", { className: "frostline-map-ramp" });
      bar.style.background = `linear-gradient(to right, ${cells.facts.palette.ramp.join(", ")})`;
      return this.legend.replaceChildren("0 ", bar, " 1: probability of the predicted class");
    }
    const counts = kinds.map(() => 0);
    const all = this.plots.map((plot) => plot.paint.codes).filter((codes, i, others) => others.indexOf(codes) === i);
    const anywhere = all.length > 1 ? (cell, kind) => all.some((codes) => codes[cell] === kind) : (cell, kind) => all[0][cell] === kind;
    if (all.length === 1) for (const code of all[0]) counts[code] += 1;
    const entries = kinds.map((kind, i) => {
      const button = make("button", { type: "button", title: kind.name }, swatch(kind), shortened(kind.name, 40));
      if (all.length === 1) button.append(make("span", { className: "frostline-map-count", textContent: counts[i].toLocaleString("en") }));
      button.setAttribute("aria-label", `Select ${kind.name}`);
      button.addEventListener("click", (event) => {
        this.pick(cells.where((cell) => anywhere(cell, i)), event.shiftKey || event.ctrlKey || event.metaKey);
      });
      return button;
    });
    const others = kinds.filter((kind) => kind.colour === null).length;
    if (others > 1) entries.push(make("span", { className: "frostline-map-note", textContent: `${others} kinds with the fewest cells are grey` }));
    entries.slice(1).forEach((entry) => { entry.tabIndex = -1; }); // one stop for all of them: arrows go along
    this.legend.replaceChildren(...entries);
  }

  alongLegend(event) {
    const names = [...this.legend.querySelectorAll("button")], at = names.indexOf(event.target);
    const ways = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: names.length - 1 };
    if (at < 0 || !(event.key in ways)) return;
    const next = names[clamp(ways[event.key], 0, names.length - 1)];
    [event.target.tabIndex, next.tabIndex] = [-1, 0];
    next.focus();
    event.preventDefault();
    event.stopPropagation(); // in a notebook, arrows go from cell to cell
  }
}

// A part of the page that the keyboard reaches, and scrolls.
function scrolled(name) {
  const made = make("div", { className: "frostline-map-scroll", tabIndex: 0, role: "region", "aria-label": name });
  made.addEventListener("keydown", (event) => { if (/^(Arrow|Page|Home|End)/.test(event.key)) event.stopPropagation(); });
  return made;
}

function tableOf(caption, heads, rows) {
  return make(
    "table", {}, make("caption", { textContent: caption }),
    make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col", textContent: shortened(text, 40), title: text })))),
    make("tbody", {}, ...rows),
  );
}

function swatch({ colour, shape }) {
  const size = 24, canvas = make("canvas", { width: size, height: size, className: "frostline-map-swatch", "aria-hidden": "true" });
  const context = canvas.getContext("2d"), image = context.createImageData(size, size);
  const full = colour ? rgb(colour) : [150, 150, 150];
  const { pixels } = stampOf(shape, 8, full, mixed(full, [128, 128, 128], 0.5), 1.4);
  for (let i = 0; i < pixels.length; i += 6) {
    const at = 4 * ((size / 2 + pixels[i + 1]) * size + size / 2 + pixels[i]);
    image.data.set([pixels[i + 3], pixels[i + 4], pixels[i + 5], Math.min(255, pixels[i + 2])], at);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// ---------------------------------------------------------------- what anywidget calls

function render({ model, el }) {
  const map = new CellMap(model, el);
  model.on("change:_facts", () => map.load());
  model.on("change:_picked", () => {
    if (!map.cells) return;
    map.takePicked();
    map.draw();
  });
  model.on("change:colour", () => {
    if (!map.cells) return;
    map.recolour();
    map.draw();
  });
  const sized = new ResizeObserver(() => map.fit());
  sized.observe(map.root);
  const themed = new MutationObserver(() => requestAnimationFrame(() => map.fit()));
  const watched = { attributes: true, attributeFilter: ["class", "data-theme", "data-jp-theme-light", "style"] };
  for (const element of [document.documentElement, document.body]) themed.observe(element, watched);
  return () => {
    sized.disconnect();
    themed.disconnect();
  };
}

export default { render };

// The data that `pastur report` wrote into the page, and functions that look it up.
const payload = JSON.parse(document.getElementById('data').textContent);

function bytesOf(index) {
  const text = atob(payload.blobs[index]);
  return Uint8Array.from({length: text.length}, (_, i) => text.charCodeAt(i));
}
const decodedBlobs = new Map();
// Decodes a blob of metrics: little-endian float32.
function floats(index) {
  if (!decodedBlobs.has(index)) {
    const view = new DataView(bytesOf(index).buffer);
    decodedBlobs.set(
        index, Float32Array.from({length: view.byteLength / 4}, (_, i) => view.getFloat32(4 * i, true)));
  }
  return decodedBlobs.get(index);
}

// Decodes a blob of eigenvalues, which holds spectra of n values each: the largest value as float32 (NaN: no
// spectrum), then the differences between the levels of neighbours as LEB128. The level of lambda is
// ln(lambda / largest), from -ln 1e12 to 0 in 65535 steps of 4e-4; level 0 is zero.
function eigenvalues(index, n) {
  if (decodedBlobs.has(index)) return decodedBlobs.get(index);
  const bytes = bytesOf(index), view = new DataView(bytes.buffer), values = [];
  let at = 0;
  while (at < bytes.length) {
    const largest = view.getFloat32(at, true);
    at += 4;
    let level = 65535;
    for (let i = 0; i < n; ++i) {
      if (Number.isNaN(largest)) {
        values.push(NaN);
        continue;
      }
      for (let shift = 0, more = i > 0; more; shift += 7) {
        level -= (bytes[at] & 127) << shift;
        more = bytes[at++] > 127;
      }
      values.push(level > 0 ? largest * Math.exp((level / 65535 - 1) * Math.log(1e12)) : 0);
    }
  }
  decodedBlobs.set(index, Float32Array.from(values));
  return decodedBlobs.get(index);
}

// The metrics of one matrix against one null: steps x layers x heads (heads is [-1] for whole layers).
class Grid {
  constructor(json) { Object.assign(this, json); }
  has(name) { return name in this.metrics; }
  // Returns NaN if there is no such record.
  get(name, step, layer, head) {
    return this.has(name) ? this.at(floats(this.metrics[name]), step, layer, head) : NaN;
  }
  at(values, step, layer, head) {
    const s = this.steps.indexOf(step), l = this.layers.indexOf(layer), h = this.heads.indexOf(head);
    return s < 0 || l < 0 || h < 0 ? NaN : values[(s * this.layers.length + l) * this.heads.length + h];
  }
}

// The eigenvalues of one kind of matrix: steps x layers x heads x n, descending.
class Spectra {
  constructor(json) { Object.assign(this, json); }
  // Returns the finite eigenvalues, descending, or null if there are none.
  get(step, layer, head) {
    const s = this.steps.indexOf(step), l = this.layers.indexOf(layer), h = this.perHead ? head : 0;
    if (s < 0 || l < 0 || h < 0 || h >= this.heads) return null;
    const begin = ((s * this.layers.length + l) * this.heads + h) * this.n;
    const values =
        Array.from(eigenvalues(this.blob, this.n).subarray(begin, begin + this.n)).filter(Number.isFinite);
    return values.length > 0 ? values : null;
  }
}

// Parses the lines `key = value` of a resolved config.toml into a map "section.key" -> text.
function parseConfig(text) {
  const entries = new Map();
  let section = '';
  for (const line of text.split('\n')) {
    const header = line.match(/^\s*\[([^\]]+)\]/);
    const entry = line.match(/^\s*([\w-]+)\s*=\s*(.*?)\s*$/);
    if (header)
      section = header[1];
    else if (entry)
      entries.set(`${section}.${entry[1]}`, entry[2]);
  }
  return entries;
}

const runs = payload.runs.map((json, index) => ({
                                ...json,
                                index,
                                series: `s${index % 8}`,
                                dash: ['', '7 3', '2 3', '9 3 2 3', '5 2', '1 3', '12 4', '4 4'][index % 8],
                                grids: json.metrics.map((grid) => new Grid(grid)),
                                spectra: json.spectra.map((spectra) => new Spectra(spectra)),
                                recipe: parseConfig(json.config),
                              }));

const isHead = (head) => head >= 0;
function gridOf(run, matrix, nul, perHead) {
  return run.grids.find((g) => g.matrix === matrix && g.null === nul && g.perHead === perHead);
}
const nullOrder = ['product', 'profile', 'permuted', 'mp'];
// Returns the grid against this null or, if the run lacks it, against the best null that it has. A sum of
// products has no product null if its parts were not measured.
function nearestGridOf(run, matrix, nul, perHead) {
  return [nul, ...nullOrder].map((name) => gridOf(run, matrix, name, perHead)).find(Boolean);
}
// The note after a run's name if its figure uses another null than the chosen one.
const insteadOfChosen = (grid) => (grid && grid.null !== state.null ? ` (null ${grid.null})` : '');
function spectraOf(run, matrix, head) {
  return run.spectra.find((s) => s.matrix === matrix && s.perHead === isHead(head));
}

const sorted = (values) => [...new Set(values)].sort((a, b) => a - b);
const allGrids = runs.flatMap((run) => run.grids);
const allSpectra = runs.flatMap((run) => run.spectra);
const hasMetrics = allGrids.length > 0;
const hasSpectra = allSpectra.length > 0;

// The distinct values for a picker, with those in `order` first.
function ranked(values, order) {
  const rank = (value) => (order.includes(value) ? order.indexOf(value) : order.length);
  return [...new Set(values)].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}
const matrices =
    ranked([...allGrids, ...allSpectra].map((g) => g.matrix), ['qk', 'qk_content', 'qk_rope', 'qk_literal']);
const nulls = ranked(allGrids.map((g) => g.null), nullOrder);
const layers = sorted([...allGrids, ...allSpectra].flatMap((g) => g.layers));
const measuredSteps = sorted([...allGrids, ...allSpectra].flatMap((g) => g.steps));
const headCount = Math.max(
    0, ...allGrids.filter((g) => g.perHead).map((g) => Math.max(...g.heads) + 1),
    ...allSpectra.filter((s) => s.perHead).map((s) => s.heads));

// Returns the step of `steps` nearest to the wanted one, or undefined if there are no steps.
function nearest(steps, wanted) {
  let best;
  for (const step of steps)
    if (best === undefined || Math.abs(step - wanted) < Math.abs(best - wanted)) best = step;
  return best;
}

const matrixNames = {
  qk: 'query-key form W_Q W_Kᵀ',
  qk_content: 'content part of W_Q W_Kᵀ',
  qk_rope: 'rotary part of W_Q W_Kᵀ',
  qk_literal: 'W_q.weight W_k.weightᵀ (literal)',
};
const matrixLabel = (matrix) => matrixNames[matrix] || `weight ${matrix}`;
const sentence = (text) =>
    text.replace(/^[a-z]/, (letter) => letter.toUpperCase());  // λ stays: Λ is another symbol
// The chosen place as text: "layer 3, head 2" or "layer 3".
const placeLabel = (layer, head) => (isHead(head) ? `layer ${layer}, head ${head}` : `layer ${layer}`);

function median(values) {
  const finite = values.filter((v) => v !== null && Number.isFinite(v)).sort((a, b) => a - b);
  return finite.length ? finite[Math.floor(finite.length / 2)] : NaN;
}
const last = (values) => (values && values.length ? values[values.length - 1] : NaN);

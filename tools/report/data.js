// The data that `pastur report` wrote into the page, and functions that look it up.
const payload = JSON.parse(document.getElementById('data').textContent);
const analysis = payload.analysis;

function bytesOf(index) {
  const text = atob(payload.blobs[index]);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) bytes[i] = text.charCodeAt(i);
  return bytes;
}
const decodedBlobs = new Map();
function decodedOnce(index, decode, size = 0) {
  const key = `${index} ${size}`;
  if (!decodedBlobs.has(key)) decodedBlobs.set(key, decode(bytesOf(index)));
  return decodedBlobs.get(key);
}
// Decodes a curve: little-endian float32.
const floats = (index) => decodedOnce(index, (bytes) => {
  const view = new DataView(bytes.buffer);
  return Float32Array.from({length: view.byteLength / 4}, (_, i) => view.getFloat32(4 * i, true));
});
// Decodes metrics (pack_numbers): a kind, two float32 a and b, one uint16 per number. Kind 0 repeats a.
const numbers = (index, count) => decodedOnce(index, (bytes) => {
  const view = new DataView(bytes.buffer), kind = bytes[0], a = view.getFloat32(1, true),
        b = view.getFloat32(5, true);
  const values = new Float32Array(kind === 0 ? count : (bytes.length - 9) / 2);
  const low = kind === 2 ? Math.log(a) : a, step = ((kind === 2 ? Math.log(b) : b) - low) / 65533;
  for (let i = 0; i < values.length; ++i) {
    const code = kind === 0 ? 0 : view.getUint16(9 + 2 * i, true);
    values[i] = code === 65535 ? NaN :
        kind === 0             ? a :
        kind === 1             ? low + code * step :
        code === 65534         ? 0 :
                                 Math.exp(low + code * step);
  }
  return values;
}, count);

// Decodes a blob of eigenvalues, which holds spectra of n values each: the largest value as float32 (NaN: no
// spectrum), then the differences between the levels of neighbours as LEB128. The level of lambda is
// ln(lambda / largest), from -ln 1e12 to 0 in 65535 steps of 4e-4; level 0 is zero.
const eigenvalues = (index, n) => decodedOnce(index, (bytes) => {
  const view = new DataView(bytes.buffer), values = [];
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
  return Float32Array.from(values);
});

// The metrics of one matrix against one null: steps x layers x heads (heads is [-1] for whole layers).
class Grid {
  constructor(json) {
    Object.assign(this, json);
    const places = (list) => new Map(list.map((value, i) => [value, i]));
    this.stepAt = places(this.steps);
    this.layerAt = places(this.layers);
    this.headAt = places(this.heads);
    this.size = this.steps.length * this.layers.length * this.heads.length;
  }
  has(name) { return name in this.metrics; }
  // Returns NaN if there is no such record.
  get(name, step, layer, head) {
    return this.has(name) ? this.at(numbers(this.metrics[name], this.size), step, layer, head) : NaN;
  }
  at(values, step, layer, head) {
    const s = this.stepAt.get(step), l = this.layerAt.get(layer), h = this.headAt.get(head);
    return s === undefined || l === undefined || h === undefined ?
        NaN :
        values[(s * this.layers.length + l) * this.heads.length + h];
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

// The onsets of one kind of event, matrix, null and threshold: layers x heads.
class OnsetGrid {
  constructor(json) { Object.assign(this, json); }
  // Returns the step of the onset, or NaN.
  get(layer, head) {
    const l = this.layers.indexOf(layer), h = this.heads.indexOf(head);
    if (l < 0 || h < 0) return NaN;
    const index = numbers(this.blob, this.layers.length * this.heads.length)[l * this.heads.length + h];
    return Number.isFinite(index) ? this.steps[Math.round(index)] : NaN;
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
const unquoted = (text) => (text || '').replace(/^"(.*)"$/s, '$1').replace(/\\n/g, '\n').replace(/\\"/g, '"');

const runs = payload.runs.map((json, index) => {
  const run = {
    ...json,
    index,
    grids: json.metrics.map((grid) => new Grid(grid)),
    probes: (json.probes || []).map((grid) => new Grid(grid)),
    spectra: json.spectra.map((spectra) => new Spectra(spectra)),
    onsets: (json.onsets || []).map((onsets) => new OnsetGrid(onsets)),
    recipe: parseConfig(json.config),
  };
  const key = (matrix, nul, perHead) => `${matrix}|${nul}|${perHead}`;
  const byKey = new Map(run.grids.map((g) => [key(g.matrix, g.null, g.perHead), g]));
  run.grid = (matrix, nul, perHead) => byKey.get(key(matrix, nul, perHead));
  run.setting = (name) => unquoted(run.recipe.get(name));
  run.variant = (run.start && run.start.variant) || run.setting('attention.variant') || 'run';
  run.seed = run.setting('train.seed');
  return run;
});

const isHead = (head) => head >= 0;
const nullOrder = ['product', 'profile', 'permuted', 'mp'];
const gridOf = (run, matrix, nul, perHead) => run.grid(matrix, nul, perHead);
// Returns the grid against this null or, if the run lacks it, against the best null that it has. Metrics of the
// eigenvalues alone are the same in each.
function anyGridOf(run, matrix, perHead, nul = nullOrder[0]) {
  return [nul, ...nullOrder].map((name) => gridOf(run, matrix, name, perHead)).find(Boolean);
}
function spectraOf(run, matrix, head) {
  return run.spectra.find((s) => s.matrix === matrix && s.perHead === isHead(head));
}

const sorted = (values) => [...new Set(values)].sort((a, b) => a - b);
const allGrids = runs.flatMap((run) => run.grids);
const allSpectra = runs.flatMap((run) => run.spectra);
const allProbes = runs.flatMap((run) => run.probes);
const hasMetrics = allGrids.length > 0;
const hasSpectra = allSpectra.length > 0;
// Runs that are drawn from their statistics.json, which keeps maps of layers, curves and onsets alone.
const hasRecords = runs.some((run) => run.record);

// The distinct values for a picker, with those in `order` first.
function ranked(values, order) {
  const rank = (value) => (order.includes(value) ? order.indexOf(value) : order.length);
  return [...new Set(values)].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}
const matrices = ranked(
    [...allGrids, ...allSpectra].map((g) => g.matrix),
    ['qk', 'qk_content', 'qk_rope', 'qk_literal', 'qk@mean', 'ov']);
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
  'qk': 'whole form',
  'qk_content': 'content part',
  'qk_rope': 'rotary part',
  'qk_literal': 'literal W_q W_kᵀ',
  'qk@mean': 'mean over positions',
  'ov': 'value-output form',
};
const positionLabel = (matrix) => {
  const pair = matrix.match(/^qk@(\d+),(\d+)$/);
  return pair && `form at positions ${pair[1]}, ${pair[2]}`;
};
const matrixLabel = (matrix) => matrixNames[matrix] || positionLabel(matrix) || `weight ${matrix}`;
const shortMatrix = {
  'qk': 'whole',
  'qk_content': 'content',
  'qk_rope': 'rotary',
  'qk_literal': 'literal',
  'qk@mean': 'positions'
};
const sentence = (text) =>
    text.replace(/^[a-z]/, (letter) => letter.toUpperCase());  // λ stays: Λ is another symbol
// The chosen place as text: "layer 3, head 2" or "layer 3".
const placeLabel = (layer, head) => (isHead(head) ? `layer ${layer}, head ${head}` : `layer ${layer}`);

function median(values) {
  const finite = values.filter((v) => v !== null && Number.isFinite(v)).sort((a, b) => a - b);
  return finite.length ? finite[Math.floor(finite.length / 2)] : NaN;
}
const last = (values) => (values && values.length ? values[values.length - 1] : NaN);
const sum = (values) => values.reduce((total, v) => total + v, 0);

// The reader's choices and their pickers. A change redraws the figures that depend on it.
const state = {
  matrix: matrices[0],
  null: nulls[0],
  layer: layers[0],
  head: -1,
  step: last(measuredSteps),
  metric: 'mp_gap_ratio',
  rows: 'layer',
  view: 'raw',
  colours: 'auto',
  spectrumAxis: 'log',
  spectrumUnit: 'edge',
  screeAxis: 'log',
  historyAxis: 'log1p',
  historyLayers: true,
  lossAxis: 'step',
  lossScale: 'linear',
  lossEvents: true,
};
const listeners = [];
const redrawOn = (figure, ...keys) => listeners.push({figure, keys});
const syncs = [];  // functions that set each picker to the state

function update(changes) {
  const changed = Object.keys(changes).filter((key) => changes[key] !== state[key]);
  if (changed.length === 0) return;
  Object.assign(state, changes);
  for (const sync of syncs) sync();
  writeAddress();
  for (const {figure, keys} of listeners)
    if (keys.some((key) => changed.includes(key))) figure.draw();
}

// options: [value, text] pairs; values may be numbers.
function picker(label, key, options) {
  const select = element(
      'select', {name: key, onchange: () => update({[key]: options[select.selectedIndex][0]})},
      ...options.map(([value, text]) => element('option', {value}, text)));
  syncs.push(() => {
    select.selectedIndex = options.findIndex(([value]) => value === state[key]);
  });
  syncs[syncs.length - 1]();
  return element('label', {}, label, select);
}
function checkbox(label, key) {
  const box = element('input', {type: 'checkbox', name: key, onchange: () => update({[key]: box.checked})});
  syncs.push(() => {
    box.checked = state[key];
  });
  box.checked = state[key];
  return element('label', {class: 'row'}, box, label);
}
// A slider over a list of numbers.
function slider(label, key, values) {
  const text = element('span');
  const range = element('input', {
    type: 'range',
    name: key,
    min: 0,
    max: Math.max(0, values.length - 1),
    step: 1,
    oninput: () => update({[key]: values[range.value]})
  });
  const sync = () => {
    range.value = Math.max(0, values.indexOf(state[key]));
    range.setAttribute('aria-valuetext', `${label} ${state[key]}`);
    text.textContent = `${label} ${state[key]}`;
  };
  syncs.push(sync);
  sync();
  return element('label', {}, text, range);
}

// The pickers that all figures of spectra share.
function sharedControls() {
  const heads = [[-1, 'whole layer'], ...Array.from({length: headCount}, (_, h) => [h, `head ${h}`])];
  return element(
      'div',
      {class: 'controls shared', role: 'group', 'aria-label': 'What the pictures of this section show'},
      picker('Matrix', 'matrix', matrices.map((m) => [m, sentence(matrixLabel(m))])),
      nulls.length ? picker('Null', 'null', nulls.map((n) => [n, n])) : null,
      picker('Layer', 'layer', layers.map((l) => [l, `layer ${l}`])), picker('Head', 'head', heads),
      slider('Step', 'step', measuredSteps));
}

// The address holds the choices that differ from the defaults, e.g. report.html#layer=3&view=excess, so a
// link opens the page with the sender's choices.
let opening = {};
function readAddress() {
  opening = {...state};
  for (const [key, text] of new URLSearchParams(location.hash.slice(1))) {
    const select = document.querySelector(`select[name="${CSS.escape(key)}"]`);
    if (key === 'step' && measuredSteps.length)
      update({step: nearest(measuredSteps, Number(text) || 0)});
    else if (select && [...select.options].some((option) => option.value === text)) {
      select.value = text;
      select.dispatchEvent(new Event('change'));
    } else if (typeof opening[key] === 'boolean')
      update({[key]: text === 'true'});
  }
}
function writeAddress() {
  const choices =
      Object.keys(opening).filter((key) => state[key] !== opening[key]).map((key) => [key, state[key]]);
  try {
    history.replaceState(null, '', `#${new URLSearchParams(choices)}`);
  } catch { /* a sandboxed frame may forbid it; the page works without */
  }
}

// Redraws figures that depend on the width of the window.
let drawnWidth = 0;
function drawAll() {
  drawnWidth = document.documentElement.clientWidth;
  for (const figure of figures) figure.draw();
}
let resizeTimer = 0;
window.addEventListener('resize', () => {
  clearTimeout(resizeTimer);
  resizeTimer = setTimeout(() => {
    if (document.documentElement.clientWidth !== drawnWidth) drawAll();
  }, 150);
});

// The reader's choices and their pickers. A change redraws the figures that depend on it.
const state = {
  hidden: [],
  filter: '',
  matrix: matrices[0],
  null: nulls[0],
  layer: layers[0],
  head: -1,
  step: last(measuredSteps),
  arm: arms[0],
  keptOf: 'step0',
  forms: 'layer',
  metric: 'kept_step0',
  rows: 'layer',
  view: 'raw',
  seed: 0,
  spectrumAxis: 'log',
  spectrumUnit: 'edge',
  screeAxis: 'log',
  historyAxis: 'log1p',
  historyForms: 'layers',
  lossAxis: 'step',
  lossScale: 'linear',
  onsetScope: 'layer',
  spikeAt: '',
  collapseAt: '',
  logit: 'max_logit',
  latent: 'entropy_rank',
  probeAxis: 'log1p',
};
const listeners = [];
const redrawOn = (figure, ...keys) => listeners.push({figure, keys: ['hidden', 'filter', ...keys]});
const syncs = [];  // functions that set each picker to the state

function update(changes) {
  const changed = Object.keys(changes).filter((key) => changes[key] !== state[key]);
  if (changed.length === 0) return;
  Object.assign(state, changes);
  for (const sync of syncs) sync();
  writeAddress();
  for (const {figure, keys} of listeners)
    if (figure.drawn !== false && keys.some((key) => changed.includes(key))) figure.draw();
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

// The line or marker of a group in a legend.
function groupSample(group) {
  return element(
      'svg', {width: 34, height: 12, 'aria-hidden': 'true', class: group.series},
      element(
          'line',
          {class: 'line stroke', x1: 1, x2: 33, y1: 6, y2: 6, 'stroke-dasharray': group.dash || null}),
      element('path', {class: 'fill', d: markerPath(group.marker, 17, 6, 3.6)}));
}
// The legend of all figures: a button for each group that hides and shows it, and a filter by words.
function legendControls() {
  const list =
      element('ul', {class: 'legend', 'aria-label': 'Variants and arms; press one to hide or show it'});
  for (const group of groups) {
    const seeds = group.runs.length > 1 ? ` × ${group.runs.length}` : '';
    const button =
        element(
            'button', {
              type: 'button',
              class: 'group',
              'data-group': group.index,
              title: `${group.label}: ${group.runs.map((run) => run.name).join(', ')}`,
              onclick: () => update({
                hidden: state.hidden.includes(group.index) ? state.hidden.filter((i) => i !== group.index) :
                                                             [...state.hidden, group.index]
              })
            },
            groupSample(group), `${group.label}${seeds}`);
    const sync = () => button.setAttribute('aria-pressed', String(isAnyShown(group)));
    syncs.push(sync);
    sync();
    list.append(element('li', {}, button));
  }
  const filter = element('input', {
    type: 'search',
    name: 'filter',
    placeholder: 'filter: variant, arm, seed 2',
    'aria-label': 'Show the runs whose names hold these words',
    size: 22,
    oninput: () => update({filter: filter.value})
  });
  syncs.push(() => {
    if (filter.value !== state.filter) filter.value = state.filter;
  });
  return element('div', {class: 'legend-row'}, list, runs.length > 1 ? filter : null);
}
const isAnyShown = (group) => group.runs.some(isShown);

// The pickers that all figures of spectra share.
function sharedControls() {
  const heads = [[-1, 'whole layer'], ...Array.from({length: headCount}, (_, h) => [h, `head ${h}`])];
  return element(
      'div', {class: 'controls', role: 'group', 'aria-label': 'What the figures of spectra show'},
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
    else if (key === 'hidden')
      update({hidden: text.split(',').map(Number).filter((i) => groups[i])});
    else if (key === 'filter')
      update({filter: text});
    else if (select && [...select.options].some((option) => option.value === text)) {
      select.value = text;
      select.dispatchEvent(new Event('change'));
    }
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

// Draws the figures one after the other, so that the first screen is painted before the rest; or all before it, at once.
let drawnWidth = 0;
function drawRest(done, atOnce) {
  drawnWidth = document.documentElement.clientWidth;
  const waiting = figures.filter((figure) => !figure.drawn);
  const next = () => {
    if (waiting.length === 0) return done();
    const figure = waiting.shift();
    if (!figure.drawn) figure.draw();
    if (atOnce) return next();
    setTimeout(next, 0);
  };
  if (atOnce) return next();
  setTimeout(next, 0);
}
const drawAll = () => {
  drawnWidth = document.documentElement.clientWidth;
  for (const figure of figures) {
    figure.draw();
    if (figure.id === 'verdicts') fitSentences();
  }
};
let resizeTimer = 0;
window.addEventListener('resize', () => {
  clearTimeout(resizeTimer);
  resizeTimer = setTimeout(() => {
    if (document.documentElement.clientWidth !== drawnWidth || window.innerHeight !== drawnHeight) {
      drawnHeight = window.innerHeight;
      drawAll();
    }
  }, 150);
});
let drawnHeight = window.innerHeight;
// Paper has its own width, whatever that of the window is; style.css gives it to the page while it is drawn anew.
window.addEventListener('beforeprint', () => {
  document.documentElement.classList.add('printing');
  drawAll();
});
window.addEventListener('afterprint', () => {
  document.documentElement.classList.remove('printing');
  drawAll();
});

// Maps of a metric by layer and step: one panel per run, all with one colour scale.

// Viridis for amounts, and blue over white to orange for excesses. Colour-blind readers can read both.
const amountStops = [
  '#440154', '#482878', '#3e4a89', '#31688e', '#26828e', '#1f9e89', '#35b779', '#6ece58', '#b5de2b', '#fde725'
];
const excessStops =
    ['#053061', '#2166ac', '#4393c3', '#92c5de', '#f4f4f2', '#fdb863', '#e08214', '#b35806', '#7f3b08'];

function mix(stops, t) {
  const at = Math.min(Math.max(t, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
  const channel = (c, k) => parseInt(stops[c].slice(1 + 2 * k, 3 + 2 * k), 16);
  return `rgb(${
          [0, 1, 2]
              .map((k) => Math.round(channel(i, k) + (channel(i + 1, k) - channel(i, k)) * (at - i)))
              .join(',')})`;
}

// Returns {colour(value), ticks: [[position 0..1, value]], note}.
function colourScale(values, metric, view, choice) {
  const [low, high] = extent(values);
  if (view === 'excess') {
    const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
    // A signed square root keeps small values visible next to large ones.
    const root = choice === 'log' || (choice === 'auto' && metrics[metric].log);
    const t = (v) => (root ? Math.sign(v) * Math.sqrt(Math.abs(v) / most) : v / most) / 2 + 0.5;
    const marks = root ? [-most, -most / 4, 0, most / 4, most] : [-most, -most / 2, 0, most / 2, most];
    return {
      colour: (v) => mix(excessStops, t(v)),
      stops: excessStops,
      ticks: marks.map((v) => [t(v), v]),
      note: root ? 'signed square-root scale' : 'linear scale'
    };
  }
  const log = low > 0 && (choice === 'log' || (choice === 'auto' && metrics[metric].log && high / low > 4));
  const t = (v) =>
      (high > low ? (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low)) : 0.5);
  const at = (p) => (log ? low * (high / low) ** p : low + p * (high - low));
  return {
    colour: (v) => mix(amountStops, t(v)),
    stops: amountStops,
    ticks: [0, 0.25, 0.5, 0.75, 1].map((p) => [p, at(p)]),
    note: log ? 'logarithmic scale' : 'linear scale'
  };
}

function colourBar(scale, label) {
  const width = 360, bar = 250;
  const svg = element('svg', {
    class: 'plot',
    viewBox: `0 0 ${width} 50`,
    style: 'max-width:360px',
    role: 'img',
    'aria-label': `Colour scale of ${label}: ${format(scale.ticks[0][1])} to ${format(last(scale.ticks)[1])}`
  });
  const id = `ramp${++clipCount}`;
  svg.append(element(
      'defs', {},
      element(
          'linearGradient', {id},
          ...scale.stops.map(
              (c, i) => element('stop', {offset: i / (scale.stops.length - 1), 'stop-color': c})))));
  svg.append(
      element('rect', {x: 30, y: 16, width: bar, height: 12, fill: `url(#${id})`}),
      element('text', {x: 30, y: 11}, `${label}, ${scale.note}`));
  scale.ticks.forEach(
      ([p, value]) =>
          svg.append(element('text', {x: 30 + p * bar, y: 42, 'text-anchor': 'middle'}, format(value, 3))));
  return svg;
}

// Returns the rows of one run's map, [{layer, head, label, value(step)}], or null if the run has no such
// grid.
function heatmapRows(run) {
  const perHead = state.rows !== 'layer';
  const grid = nearestGridOf(run, state.matrix, state.null, perHead);
  if (!grid) return null;
  const at = (layer, head) => (step) => metricValue(run, grid, state.metric, state.view, step, layer, head);
  const rows = [];
  for (const layer of grid.layers) {
    if (state.rows === 'layer')
      rows.push({layer, head: -1, label: `${layer}`, value: at(layer, -1)});
    else if (state.rows === 'heads')
      for (const head of grid.heads)
        rows.push({layer, head, label: `${layer}.${head}`, value: at(layer, head)});
    else {
      const all = (step) => grid.heads.map((head) => at(layer, head)(step)).filter(Number.isFinite);
      const reduce = state.rows === 'max' ? (v) => Math.max(...v) :
          state.rows === 'min'            ? (v) => Math.min(...v) :
                                            (v) => sum(v) / v.length;
      rows.push({
        layer,
        head: null,
        label: `${layer}`,
        value: (step) => {
          const v = all(step);
          return v.length ? reduce(v) : NaN;
        }
      });
    }
  }
  return {run, grid, rows, steps: grid.steps, cells: rows.map((row) => grid.steps.map(row.value))};
}

class HeatmapPanel {
  constructor(host, map, scale, output) {
    Object.assign(this, {map, scale, output, row: -1, column: -1});
    const {run, rows, steps, cells} = map;
    const width = Math.max(260, Math.round(host.clientWidth || 320)), left = 40, right = 6, top = 4;
    const cellHeight = Math.max(5, Math.min(26, 340 / rows.length)),
          cellWidth = (width - left - right) / steps.length;
    const height = top + cellHeight * rows.length + 40;
    Object.assign(this, {left, top, cellWidth, cellHeight, width});
    this.svg = element('svg', {
      class: 'plot',
      viewBox: `0 0 ${width} ${height}`,
      tabindex: 0,
      role: 'img',
      'aria-label': `${run.name}: ${
          metricLabel(state.metric, state.view)} by layer and step. Arrow keys move, Enter chooses.`
    });
    cells.forEach((line, r) => line.forEach((value, c) => this.svg.append(element('rect', {
      'shape-rendering': 'crispEdges',
      x: left + c * cellWidth,
      y: top + r * cellHeight,
      width: cellWidth + 0.3,
      height: cellHeight + 0.3,
      ...(Number.isFinite(value) ? {fill: scale.colour(value)} : {class: 'missing'})
    }))));
    this.labels();
    this.ring = element('rect', {class: 'ring', visibility: 'hidden', width: cellWidth, height: cellHeight});
    this.inner =
        element('rect', {class: 'ring-inner', visibility: 'hidden', width: cellWidth, height: cellHeight});
    this.svg.append(this.ring, this.inner);
    this.listen();
    this.showChoice();
    host.append(this.svg);
  }
  labels() {
    const {rows, steps} = this.map, {left, top, cellWidth, cellHeight, width} = this;
    const everyRow = Math.ceil(13 / cellHeight), foot = top + cellHeight * rows.length;
    rows.forEach((row, r) => {
      if (r % everyRow === 0)
        this.svg.append(element(
            'text', {x: left - 5, y: top + (r + 0.5) * cellHeight + 4, 'text-anchor': 'end'}, row.label));
    });
    let clear = -1;
    steps.forEach((step, c) => {
      const at = left + (c + 0.5) * cellWidth, half = String(step).length * 3.7;
      if (at - half < clear || at + half > width + 4) return;
      clear = at + half + 8;
      this.svg.append(element('text', {x: at, y: foot + 15, 'text-anchor': 'middle'}, String(step)));
    });
    this.svg.append(
        element(
            'text', {class: 'axis-label', x: (left + width) / 2, y: foot + 33, 'text-anchor': 'middle'},
            'step (one column a measurement)'),
        element(
            'text', {
              class: 'axis-label',
              transform: `translate(11 ${(top + foot) / 2}) rotate(-90)`,
              'text-anchor': 'middle'
            },
            state.rows === 'heads' ? 'layer.head' : 'layer'));
  }
  mark(row, column) {
    for (const ring of [this.ring, this.inner]) {
      ring.setAttribute('x', this.left + column * this.cellWidth);
      ring.setAttribute('y', this.top + row * this.cellHeight);
      ring.setAttribute('visibility', 'visible');
    }
  }
  showChoice() {
    const {rows, steps} = this.map, column = steps.indexOf(nearest(steps, state.step));
    const row = rows.findIndex(
        (r) =>
            r.layer === state.layer && (r.head === null || r.head === state.head || state.rows === 'layer'));
    if (row >= 0 && column >= 0) this.mark(row, column);
  }
  say(row, column) {
    Object.assign(this, {row, column});
    this.mark(row, column);
    const {run, rows, steps, cells} = this.map, {layer, head} = rows[row];
    const place = head === null ? `layer ${layer} (${state.rows} of heads)` : placeLabel(layer, head);
    this.output.textContent = `${run.name}, ${place}, step ${steps[column]}: ${metrics[state.metric].name} ${
        state.view === 'raw' ? '' : 'excess '}= ${format(cells[row][column])}`;
  }
  choose() {
    const {layer, head} = this.map.rows[this.row];
    update({layer, head: head === null ? state.head : head, step: this.map.steps[this.column]});
  }
  listen() {
    const rows = this.map.rows.length, columns = this.map.steps.length;
    this.svg.addEventListener('pointermove', (event) => {
      const box = this.svg.getBoundingClientRect(), zoom = this.width / box.width;
      const column = Math.floor(((event.clientX - box.left) * zoom - this.left) / this.cellWidth);
      const row = Math.floor(((event.clientY - box.top) * zoom - this.top) / this.cellHeight);
      if (row >= 0 && row < rows && column >= 0 && column < columns) this.say(row, column);
    });
    this.svg.addEventListener('click', () => {
      if (this.row >= 0) this.choose();
    });
    this.svg.addEventListener('keydown', (event) => {
      const move = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
      if (move) {
        const clamp = (v, most) => Math.max(0, Math.min(most - 1, v));
        this.say(
            clamp(this.row + (this.row < 0 ? 1 : move[0]), rows),
            clamp(this.column + (this.column < 0 ? 1 : move[1]), columns));
        event.preventDefault();
      } else if (event.key === 'Enter' && this.row >= 0)
        this.choose();
    });
  }
}

let heatmapPanels = [];
function drawHeatmaps(body, output) {
  heatmapPanels = [];
  const maps = runs.map(heatmapRows);
  const scale = colourScale(
      maps.flatMap((map) => (map ? map.cells.flat() : [])), state.metric, state.view, state.colours);
  body.append(colourBar(scale, metricLabel(state.metric, state.view)));
  makeRunPanels(body, state.rows !== 'layer').forEach((host, i) => {
    if (maps[i])
      heatmapPanels.push(new HeatmapPanel(host, maps[i], scale, output));
    else
      host.append(element(
          'p', {class: 'hint'},
          `No ${matrixLabel(state.matrix)} ${
              state.rows === 'layer' ? 'of whole layers' : 'of heads'} against ${state.null} in this run.`));
  });
  const rows = maps.flatMap(
      (map) =>
          (map ? map.rows.flatMap(
                     (row, r) => map.steps.map(
                         (step, c) =>
                             [map.run.name, step, row.layer, row.head === null ? state.rows : row.head,
                              map.cells[r][c]])) :
                 []));
  const over = state.view === 'raw' ? '' : ` ${excessMeaning(state.metric, state.matrix)}`;
  return {
    header: ['run', 'step', 'layer', 'head', `${state.metric}${state.view === 'raw' ? '' : '_excess'}`],
    rows,
    caption: `${sentence(metrics[state.metric].name)}: ${metrics[state.metric].help}. ${
        sentence(
            matrixLabel(state.matrix))}, null ${state.null}.${over} Choose a cell to see its spectrum below.`
  };
}
function addHeatmaps(section) {
  const figure = new Figure(section, 'heatmap', 'Every layer, over training', drawHeatmaps);
  const rows = [
    ['layer', 'whole layers'],
    ...(headCount > 0 ?
            [
              ['max', 'maximum over heads'], ['mean', 'mean over heads'], ['min', 'minimum over heads'],
              ['heads', 'every head']
            ] :
            [])
  ];
  figure.controls.append(
      picker('Metric', 'metric', availableMetrics.map((id) => [id, metrics[id].name])),
      picker('View', 'view', [['raw', 'as measured'], ['excess', 'excess over the null']]),
      picker('Rows', 'rows', rows),
      picker('Colours', 'colours', [['auto', 'automatic'], ['linear', 'linear'], ['log', 'logarithmic']]));
  redrawOn(figure, 'metric', 'view', 'rows', 'colours', 'matrix', 'null');
  redrawOn({draw: () => heatmapPanels.forEach((panel) => panel.showChoice())}, 'layer', 'head', 'step');
}

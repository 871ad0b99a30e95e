// Tables: an overview of the runs, events, speed and memory, recipes.
function table(header, rows, numeric = []) {
  const cls = (i) => (numeric.includes(i) ? 'number' : null);
  return element(
      'div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `Table: ${header.join(', ')}`},
      element(
          'table', {},
          element(
              'thead', {},
              element(
                  'tr', {}, ...header.map((text, i) => element('th', {scope: 'col', class: cls(i)}, text)))),
          element(
              'tbody', {},
              ...rows.map(
                  (row) => element(
                      'tr', {},
                      ...row.map(
                          (cell, i) =>
                              (cell instanceof Element && cell.tagName === 'TD' ?
                                   cell :
                                   element('td', {class: cls(i)}, cell))))))));
}
const named = (run) => element('span', {}, ...runTitle(run));
const variantOf = (run) =>
    (run.start && run.start.variant) || (run.recipe.get('attention.variant') || '–').replace(/"/g, '');
const statusOf = (run) => (run.end ? run.end.status : 'not ended');

// Returns the layer with the largest ratio of eigenvalue to edge (of the first null) at the last measurement.
function mostProminent(run) {
  const grid =
      nearestGridOf(run, matrices[0], nulls[0], false) || nearestGridOf(run, matrices[0], nulls[0], true);
  let best = null;
  if (grid)
    for (const layer of grid.layers)
      for (const head of grid.heads) {
        const ratio = rawValue(grid, 'mp_gap_ratio', last(grid.steps), layer, head);
        if (Number.isFinite(ratio) && (!best || ratio > best.ratio)) best = {ratio, layer, head};
      }
  return best;
}

function addRuns(section) {
  const count = (run, kind) => run.events.filter((e) => e.event === kind).length;
  const columns = [
    'run', 'attention', 'parameters', 'step', 'status', 'train loss', 'val loss', 'val ppl', 'tokens/s',
    'memory', 'cache'
  ];
  if (hasMetrics) columns.push('max λmax / λ₊', 'events');
  const rows = runs.map((run) => {
    const start = run.start || {}, best = mostProminent(run), val = last(run.val.loss);
    return [
      named(run), variantOf(run), formatCount(start.parameters ?? NaN), String(last(run.train.step) || 0),
      statusOf(run), format(last(run.train.loss), 5), format(val, 5), format(Math.exp(val), 4),
      formatCount(median(run.train.tokens_per_s)), `${format(last(run.train.mem_gib), 3)} GiB`,
      `${start.cache_bytes_per_token ?? '–'} B`,
      ...(hasMetrics ?
              [
                best ? `${format(best.ratio, 3)} (${
                           isHead(best.head) ? `L${best.layer} H${best.head}` : `L${best.layer}`})` :
                       '–',
                `▲ ${count(run, 'spike')} ▼ ${count(run, 'collapse')}`
              ] :
              [])
    ];
  });
  const prominence = !hasMetrics ?
      '' :
      ` λmax / λ₊: ${matrixLabel(matrices[0])} against ${
          nulls[0]} (or the run’s next null) at the last measurement, for the layer where it is largest.` +
          ' ▲ spikes, ▼ collapses.';
  section.append(table(columns, rows, [2, 3, 5, 6, 7, 8, 9, 10, 11, 12]));
  section.append(element(
      'p', {class: 'caption'},
      'Losses: the last of each, in nats per token. tokens/s: median of the logged steps. Memory: at the ' +
          'last logged step. Cache: bytes per token of a bf16 inference cache.' + prominence));
  const about = new Map();  // note -> the runs to which it applies
  for (const run of runs)
    for (const note of run.notes) about.set(note, [...(about.get(note) || []), run.name]);
  const notes = [...about].map(
      ([note, names]) =>
          `${names.length === runs.length && names.length > 1 ? 'all runs' : names.join(', ')}: ${note}.`);
  if (notes.length)
    section.append(element(
        'div', {class: 'notice', role: 'note'},
        'What this page leaves out:', element('ul', {}, ...notes.map((note) => element('li', {}, note)))));
}

const kPrintedEvents = 30;  // as in style.css
function addEvents(section) {
  const all = runs.flatMap((run) => run.events.map((event) => ({run, event})))
                  .sort((a, b) => a.event.step - b.event.step);
  if (all.length === 0) {
    section.append(element(
        'p', {},
        hasMetrics ? 'No spike and no collapse was recorded.' :
                     'No spectra were measured in these runs, so there are no events.'));
    return;
  }
  const figure = new Figure(section, 'events', 'Spikes and collapses', (body) => {
    const shown = all.filter(
        ({run, event}) => (state.eventRun < 0 || run.index === state.eventRun) &&
            (state.eventKind === 'all' || event.event === state.eventKind));
    const detail = (e) => (
        e.event === 'spike' ? `λmax ${format(e.lambda_max)} = ${format(e.lambda_max / e.lambda_plus, 3)} λ₊` :
                              `stable rank ${format(e.stable_rank)}, was ${format(e.initial_stable_rank)}`);
    const go = (e) => {
      update({
        matrix: e.matrix,
        null: e.null ?? state.null,
        layer: e.layer,
        head: e.head ?? -1,
        step: nearest(measuredSteps, e.step)
      });
      byId('f-spectrum').scrollIntoView();
    };
    const list = table(
        ['step', 'run', 'event', 'where', 'matrix', 'null', 'what', ''],
        shown.map(
            ({run, event}) =>
                [String(event.step), named(run), `${event.event === 'spike' ? '▲' : '▼'} ${event.event}`,
                 placeLabel(event.layer, event.head ?? -1), matrixLabel(event.matrix), event.null ?? '–',
                 detail(event),
                 hasSpectra ? element(
                                  'button', {
                                    type: 'button',
                                    onclick: () => go(event),
                                    'aria-label': `Show the spectrum at step ${event.step}`
                                  },
                                  'show') :
                              '']),
        [0]);
    list.classList.add('tall');
    body.append(list);
    if (shown.length > kPrintedEvents)
      body.append(
          element('p', {class: 'print-only caption'}, `The first ${kPrintedEvents} of ${shown.length}.`));
    return {
      header: [
        'run', 'step', 'event', 'layer', 'head', 'matrix', 'null', 'lambda_max', 'lambda_plus', 'stable_rank',
        'initial_stable_rank'
      ],
      rows: shown.map(
          ({run, event: e}) =>
              [run.name, e.step, e.event, e.layer, e.head, e.matrix, e.null, e.lambda_max, e.lambda_plus,
               e.stable_rank, e.initial_stable_rank]),
      caption: `${shown.length} of ${
                   all.length} events. A spike: the largest eigenvalue passed the null’s edge by ` +
          'the recipe’s ratio. A collapse: the stable rank fell below the recipe’s fraction of its first value.'
    };
  });
  Object.assign(state, {eventRun: -1, eventKind: 'all'});
  figure.controls.append(
      picker('Run', 'eventRun', [[-1, 'all'], ...runs.map((run) => [run.index, run.name])]),
      picker('Event', 'eventKind', [['all', 'all'], ['spike', 'spikes'], ['collapse', 'collapses']]));
  redrawOn(figure, 'eventRun', 'eventKind');
}

const bars = {
  tokens_per_s: {name: 'Throughput', unit: 'tokens / s', of: (run) => median(run.train.tokens_per_s)},
  step_ms: {name: 'Time per step', unit: 'ms', of: (run) => median(run.train.step_ms)},
  data_ms: {name: 'Time waiting for data', unit: 'ms', of: (run) => median(run.train.data_ms)},
  mfu: {name: 'Model FLOPs utilisation', unit: '%', of: (run) => 100 * median(run.train.mfu)},
  mem_gib: {name: 'Memory in training', unit: 'GiB', of: (run) => last(run.train.mem_gib)},
  cache: {
    name: 'Inference cache per token',
    unit: 'bytes',
    of: (run) => (run.start && run.start.cache_bytes_per_token) ?? NaN
  },
};
function drawBars(host, {name, unit, of}) {
  const values = runs.map(of), most = Math.max(0, ...values.filter(Number.isFinite));
  const width = Math.max(260, host.clientWidth || 400), line = 38, height = runs.length * line + 4;
  const svg = element('svg', {
    class: 'plot',
    viewBox: `0 0 ${width} ${height}`,
    role: 'img',
    'aria-label': `${name}: ${runs.map((run, i) => `${run.name} ${format(values[i])} ${unit}`).join(', ')}`
  });
  runs.forEach((run, i) => {
    const y = i * line, full = width - 120,
          length = most > 0 && values[i] > 0 ? Math.max(2, (values[i] / most) * full) : 0;
    svg.append(
        element('text', {x: 0, y: y + 13}, run.name),
        element('rect', {x: 0, y: y + 18, width: length, height: 13, class: `fill ${run.series}`}),
        element(
            'text', {x: length + 6, y: y + 29},
            `${
                Math.abs(values[i]) >= 1e4 ?
                    formatCount(values[i]) :
                    format(values[i], Number.isInteger(values[i]) ? 4 : 3)} ${unit}`));
  });
  host.append(svg);
}
function addSpeed(section) {
  const shown = Object.entries(bars).filter(([, bar]) => runs.some((run) => Number.isFinite(bar.of(run))));
  if (shown.length === 0) {
    section.append(element('p', {}, 'No step has been logged yet.'));
    return;
  }
  new Figure(section, 'speed', 'Throughput and memory', (body) => {
    makePanels(body, shown.map(([, bar]) => [bar.name])).forEach((host, i) => drawBars(host, shown[i][1]));
    return {
      header: ['run', ...shown.map(([id]) => id)],
      rows: runs.map((run) => [run.name, ...shown.map(([, bar]) => bar.of(run))]),
      caption: `Medians of the logged steps. Devices: ${
              [...new Set(runs.map(
                   (run) => (run.env && run.env.device) || (run.start && run.start.device) || 'unknown'))]
                  .join('; ')}.`
    };
  });
}

function flatten(object, prefix = '') {
  return Object.entries(object || {})
      .flatMap(
          ([key, value]) =>
              (value !== null && typeof value === 'object' ? flatten(value, `${prefix}${key}.`) :
                                                             [[prefix + key, JSON.stringify(value)]]));
}
function addRecipes(section) {
  const sources = [...runs.map((run) => new Map([...run.recipe, ...flatten(run.env, 'env.')]))];
  const keys = [...new Set(sources.flatMap((map) => [...map.keys()]))];
  const differing = keys.filter((key) => new Set(sources.map((map) => map.get(key))).size > 1);
  if (runs.length > 1) {
    new Figure(section, 'recipes', 'Where the runs differ', (body) => {
      const rows =
          differing.map((key) => [element('code', {}, key), ...sources.map((map) => map.get(key) ?? '–')]);
      body.append(
          rows.length ? table(['setting', ...runs.map((run) => run.name)], rows) :
                        element('p', {}, 'The recipes and environments are equal.'));
      return {
        header: ['setting', ...runs.map((run) => run.name)],
        rows: differing.map((key) => [key, ...sources.map((map) => map.get(key))]),
        caption: `${differing.length} of ${
            keys.length} settings of the resolved recipes and the environments (env.*).`
      };
    });
  }
  for (const run of runs) {
    section.append(
        element(
            'details', {}, element('summary', {}, `Resolved recipe of ${run.name}`),
            element('pre', {tabindex: 0}, run.config || 'config.toml is missing')),
        element(
            'details', {}, element('summary', {}, `Environment of ${run.name}`),
            element(
                'pre', {tabindex: 0}, run.env ? JSON.stringify(run.env, null, 2) : 'env.json is missing')));
  }
}

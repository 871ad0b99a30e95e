// Onset of the spike against onset of the collapse of each layer or head, and how many forms have them.

const allOnsets = runs.flatMap((run) => run.onsets);
const thresholdsOf = (kind) => sorted(allOnsets.filter((o) => o.kind === kind).map((o) => o.threshold));
const spikeThresholds = thresholdsOf('spike'), collapseThresholds = thresholdsOf('collapse').reverse();
// A run of a former version has no thresholds in its log: 0.
const thresholdText = (kind, value) =>
    (value === 0          ? 'the recipe’s threshold' :
         kind === 'spike' ? `above ${value} edges` :
                            `below ${percent(value)}`);
function chosenThreshold(kind) {
  const [key, list, usual] =
      kind === 'spike' ? ['spikeAt', spikeThresholds, 2] : ['collapseAt', collapseThresholds, 0.5];
  if (state[key] === '') state[key] = list.includes(usual) ? usual : list[0] ?? 0;
  return state[key];
}
function onsetGrid(run, kind, matrix, nul, threshold) {
  return run.onsets.find(
      (o) => o.kind === kind && o.matrix === matrix && o.null === nul && o.threshold === threshold);
}
// The forms of a run in the chosen scope: [layer, head].
function formPlaces(run, matrix) {
  const grid = anyGridOf(run, matrix, state.onsetScope === 'head');
  return grid ? grid.layers.flatMap((layer) => grid.heads.map((head) => [layer, head])) : [];
}

function onsetPairs(group) {
  const pairs = [];
  for (const run of shownRuns(group)) {
    const spike = onsetGrid(run, 'spike', state.matrix, state.null, chosenThreshold('spike'));
    const collapse = onsetGrid(run, 'collapse', state.matrix, '', chosenThreshold('collapse'));
    for (const [layer, head] of formPlaces(run, state.matrix))
      pairs.push({
        run,
        layer,
        head,
        spike: spike ? spike.get(layer, head) : NaN,
        collapse: collapse ? collapse.get(layer, head) : NaN
      });
  }
  return pairs;
}

function drawOnsets(body, output) {
  const used =
      shownGroups().map((group) => ({group, pairs: onsetPairs(group)})).filter((g) => g.pairs.length);
  if (used.length === 0) {
    body.append(hint(`No ${matrixLabel(state.matrix)} was measured in the shown runs.`));
    return null;
  }
  const end = Math.max(...measuredSteps, 1), unit = measuredSteps.find((step) => step > 0) || 1;
  const never = end * 1.9, axis = {kind: 'log1p', domain: [0, end * 2.4], unit, until: end};
  const hosts = makePanels(body, used.length);
  used.forEach(({group, pairs}, i) => {
    const plot = new Plot(hosts[i], {
      height: 300,
      title: group.label,
      margin: {left: 58},
      label: `${group.label}: onset of collapse against onset of spike`,
      x: {...axis, label: 'onset of the spike (step)'},
      y: {...axis, label: 'onset of the collapse (step)'}
    });
    plot.line([[0, 0], [end, end]], {class: 'edge-line', 'stroke-dasharray': '6 3'});
    plot.band(end * 1.35, end * 2.4, {class: 'never'});
    plot.bandAcross(end * 1.35, end * 2.4, {class: 'never'});
    const counts = new Map();
    for (const pair of pairs) {
      const x = Number.isFinite(pair.spike) ? pair.spike : never,
            y = Number.isFinite(pair.collapse) ? pair.collapse : never;
      const key = `${x} ${y}`;
      if (!counts.has(key)) counts.set(key, {x, y, places: []});
      counts.get(key).places.push(pair);
    }
    for (const {x, y, places} of counts.values()) {
      const names = places.slice(0, 8).map(
          (p) => `${isHead(p.head) ? `L${p.layer} H${p.head}` : `L${p.layer}`}${
              group.runs.length > 1 ? ` s${p.run.seed}` : ''}`);
      plot.marker(
          group.marker, x, y, 3 + 1.5 * Math.sqrt(places.length), {class: `fill see-through ${group.series}`},
          `${places.length} ${places.length === 1 ? 'form' : 'forms'}: ${names.join(', ')}${
              places.length > 8 ? ' …' : ''}`);
    }
    plot.over.append(
        element(
            'text', {
              class: 'small faint',
              x: plot.x.to(never),
              y: plot.height - plot.box.bottom + 16,
              'text-anchor': 'middle'
            },
            'never'),
        element(
            'text',
            {class: 'small faint', x: plot.box.left - 6, y: plot.y.to(never) + 4, 'text-anchor': 'end'},
            'never'));
    plot.cursor(sorted([...counts.values()].map((c) => c.x)), (x) => {
      const here = [...counts.values()].filter((c) => c.x === x).flatMap((c) => c.places);
      const text = (v) => (Number.isFinite(v) ? `step ${v}` : 'never');
      return `${group.label}: ${here.length} forms spike ${
          x === never ?
              'never' :
              `at step ${x}`}; they collapse ${distinct(here.map((p) => text(p.collapse))).join(', ')}`;
    }, output);
  });
  return {
    header:
        ['run', 'variant', 'arm', 'seed', 'matrix', 'null', 'layer', 'head', 'spike_onset', 'collapse_onset'],
    rows: used.flatMap(
        ({pairs}) => pairs.map(
            (p) =>
                [p.run.name, p.run.variant, p.run.group.arm, p.run.seed, state.matrix, state.null, p.layer,
                 p.head, p.spike, p.collapse])),
    caption:
        `${sentence(matrixLabel(state.matrix))} of each ${
            state.onsetScope === 'head' ? 'head' : 'layer'} and seed. Spike: ${
            thresholdText('spike', chosenThreshold('spike'))} of the null ${state.null}; collapse: ${
            thresholdText(
                'collapse',
                chosenThreshold('collapse'))} of the stable rank at step 0. Both are confirmed by the next ` +
        'measurement. On the dashed line both begin at the same measurement; the shaded margins hold forms without one of them; larger marks are several forms.'
  };
}

// Shares of forms with an onset, so that variants with different numbers of matrices can be compared.
function drawOnsetShares(body) {
  const rows = [];
  for (const group of shownGroups())
    for (const matrix of ['qk', 'qk_content', 'qk_rope', 'qk@mean', 'qk_literal'])
      for (const [scope, perHead] of [['layers', false], ['heads', true]]) {
        const own = shownRuns(group).filter((run) => anyGridOf(run, matrix, perHead));
        if (own.length === 0) continue;
        const count = (kind, nul, threshold) => {
          let forms = 0;
          const steps = [];
          for (const run of own) {
            const grid = anyGridOf(run, matrix, perHead),
                  onsets = onsetGrid(run, kind, matrix, nul, threshold);
            forms += grid.layers.length * grid.heads.length;
            if (onsets)
              for (const layer of grid.layers)
                for (const head of grid.heads)
                  if (Number.isFinite(onsets.get(layer, head))) steps.push(onsets.get(layer, head));
          }
          return [percent(steps.length / forms), steps.length ? String(median(steps)) : '–'];
        };
        rows.push([
          group.label, matrixLabel(matrix), scope,
          ...nulls.flatMap((nul) => count('spike', nul, chosenThreshold('spike'))),
          ...count('collapse', '', chosenThreshold('collapse'))
        ]);
      }
  const header = [
    'group', 'matrix', 'of', ...nulls.flatMap((nul) => [`spike ${nul}`, 'median step']), 'collapse',
    'median step'
  ];
  body.append(table(header, rows, header.map((_, i) => i).slice(3)));
  return {
    header,
    rows,
    caption: `Share of forms, over layers (and heads) and seeds of each matrix by itself, with a spike ${
        thresholdText('spike', chosenThreshold('spike'))} of each null and with a collapse ${
        thresholdText('collapse', chosenThreshold('collapse'))}, and the median step of the onset.`
  };
}

function addOnsets(section) {
  if (allOnsets.length === 0) {
    section.append(element(
        'p', {},
        hasMetrics ? 'No spike and no collapse was recorded.' :
                     'No spectra were measured in these runs, so there are no onsets.'));
    return;
  }
  chosenThreshold('spike');
  chosenThreshold('collapse');
  const figure = new Figure(section, 'onsets', 'Onset against onset', drawOnsets, {height: 330});
  const options = (kind, list) => list.map((value) => [value, thresholdText(kind, value)]);
  figure.controls.append(
      headCount > 0 ? picker('Forms', 'onsetScope', [['layer', 'layers'], ['head', 'heads']]) : '',
      spikeThresholds.length ? picker('Spike', 'spikeAt', options('spike', spikeThresholds)) : '',
      collapseThresholds.length ? picker('Collapse', 'collapseAt', options('collapse', collapseThresholds)) :
                                  '');
  redrawOn(figure, 'onsetScope', 'spikeAt', 'collapseAt', 'matrix', 'null');
  const shares = new Figure(
      section, 'onset-shares', 'How many forms spike and collapse', drawOnsetShares, {height: 120});
  redrawOn(shares, 'spikeAt', 'collapseAt');
}

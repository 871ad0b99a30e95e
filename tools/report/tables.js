// Tables and bars: the runs, speed and memory, recipes, provenance.
function table(header, rows, numeric = []) {
  const cls = (i) => (numeric.includes(i) ? 'number' : null);
  // A name is never broken at a hyphen.
  const kind = (cell, i) =>
      cls(i) || (typeof cell === 'string' && cell.length < 40 && !cell.includes(' ') ? 'nowrap' : null);
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
                      'tr', {}, ...row.map((cell, i) => element('td', {class: kind(cell, i)}, cell)))))));
}
const statusOf = (run) => (run.end ? run.end.status : 'not ended');
const swatch = (group) => element('span', {class: `swatch ${group.series}`, 'aria-hidden': 'true'});
// The highest memory that was in use at any logged step or at the end.
const peakMemory = (run) => extent([...run.train.mem_gib, run.end ? run.end.mem_gib : NaN], [NaN, NaN])[1];

function addRuns(section) {
  const figure = new Figure(section, 'runs', 'Every run', (body) => {
    const header = [
      'run', 'variant', 'arm', 'seed', 'parameters', 'step', 'status', 'train loss', 'val loss', 'val ppl',
      'tokens/s', 'memory, GiB', 'cache, B/token'
    ];
    const values = shownGroups().flatMap(shownRuns).map((run) => {
      const start = run.start || {}, val = last(run.val.loss);
      return {
        run,
        cells: [
          run.name, run.variant, run.group.arm, run.seed, start.parameters ?? NaN, last(run.train.step),
          statusOf(run), last(run.train.loss), val, Math.exp(val), median(run.train.tokens_per_s),
          peakMemory(run), start.cache_bytes_per_token ?? NaN
        ]
      };
    });
    const text = [
      null, null, null, null, formatCount, (v) => format(v), null, (v) => format(v, 5), (v) => format(v, 5),
      (v) => format(v), formatCount, (v) => format(v, 3), (v) => format(v)
    ];
    body.append(table(
        header,
        values.map(
            ({run, cells}) => cells.map(
                (v, i) =>
                    (i === 0     ? element('span', {class: 'nowrap'}, swatch(run.group), v) :
                         text[i] ? text[i](v) :
                                   v || '–'))),
        [3, 4, 5, 7, 8, 9, 10, 11, 12]));
    return {
      header,
      rows: values.map(({cells}) => cells),
      caption:
          'Losses: the last of each, in nats per token. tokens/s: median of the logged steps. Memory: the highest in ' +
          'use. Cache: bytes per token of a bf16 inference cache.'
    };
  }, {height: 100});
  redrawOn(figure);
}

// The number that a claim judges under a choice: where its figure points to in the forms of the variant's group.
function figureOf(claim, choice) {
  const group = analysis.groups.find((g) => g.variant === claim.variant && (choice.arm ?? g.arm) === g.arm);
  const path = (claim.figure || '').replace(/\{(\w+)\}/g, (_, dimension) => choice[dimension]).split('/');
  const forms = group && (group.matrices[choice.matrix ?? 'qk'] || {})[choice.scope ?? 'layer'];
  return path.reduce((at, key) => (at && key ? at[key] : null), forms);
}

// The claims behind the findings, and every choice they were judged under.
function addFindings(section) {
  if (!analysis.findings || analysis.findings.length === 0) {
    section.append(element('p', {}, 'These runs were not analysed.'));
    return;
  }
  if (analysis.sentences && analysis.sentences.length)
    section.append(element('ul', {}, ...analysis.sentences.map((s) => element('li', {}, textOf(s)))));
  for (const finding of analysis.findings) {
    const claims = finding.claims || [], choices = finding.choices || [];
    const dimensions =
        distinct(choices.flatMap((choice) => Object.keys(choice)))
            .filter((key) => !['verdict', 'claims'].includes(key) && choices.some((choice) => choice[key]));
    const cell = (choice, claim) => {
      const own = (choice.claims || {})[claim.id];
      if (!own) return '–';
      const value = own.value || figureOf(claim, choice), known = value && Number.isFinite(value.mean);
      const ends =
          known && Number.isFinite(value.low) ? ` (${format(value.low, 3)} to ${format(value.high, 3)})` : '';
      return element(
          'span', {}, element('span', {class: verdictClass(own.verdict)}, own.verdict),
          known ? ` ${format(value.mean, 3)}${ends}` : '');
    };
    section.append(element(
        'div', {class: 'finding'},
        element(
            'h3', {}, `${finding.id}. `, finding.claim, ' ',
            element('span', {class: verdictClass(finding.verdict)}, verdictText(finding))),
        finding.because ? element('p', {}, textOf(finding.because)) : '',
        element(
            'ul', {class: 'claims'},
            ...claims.map(
                (claim) => element(
                    'li', {}, textOf(claim.text), ' ',
                    element('span', {class: verdictClass(claim.verdict)}, verdictText(claim)),
                    claim.counts === false ? element('span', {class: 'faint'}, ' (reported, not counted)') :
                                             ''))),
        choices.length ?
            element(
                'details', {}, element('summary', {}, `The ${choices.length} choices it was judged under`),
                table(
                    [...dimensions.map((d) => d.replace('_', ' ')), 'verdict', ...claims.map((c) => c.id)],
                    choices.map(
                        (choice) =>
                            [...dimensions.map(
                                 (d) => (d === 'matrix' ? matrixLabel(choice[d] ?? '–') : choice[d] ?? '–')),
                             element('span', {class: verdictClass(choice.verdict)}, choice.verdict),
                             ...claims.map((claim) => cell(choice, claim))]))) :
            ''));
  }
  const rules = analysis.rules && analysis.rules.text;
  if (rules)
    section.append(element(
        'details', {}, element('summary', {}, 'The rules of the verdicts'),
        element(
            'dl', {},
            ...Object.entries(rules).flatMap(
                ([name, text]) => [element('dt', {}, name.replace(/_/g, ' ')), element('dd', {}, text)]))));
  if (analysis.attribution && analysis.attribution.length) {
    const figure = new Figure(section, 'attribution', 'What each part of the design changes', (body) => {
      const name = (side) => (side.arm ? `${side.variant}, ${side.arm}` : side.variant);
      const header = [
        'question', 'from', 'to', 'matrix', 'scope', 'statistic', 'null', 'difference', 'low', 'high', 'seeds'
      ];
      const rows = analysis.attribution.map(
          (a) =>
              [a.question, name(a.from), name(a.to), a.matrix ? matrixLabel(a.matrix) : '', a.scope || '',
               a.statistic, a.null || '', a.difference.mean, a.difference.low, a.difference.high,
               a.difference.n]);
      body.append(
          table(header, rows.map((row) => row.map((v, i) => (i >= 7 ? format(v, 3) : v))), [7, 8, 9, 10]));
      return {header, rows, caption: 'Differences of means over seeds with their 95 % intervals (Welch).'};
    }, {height: 100});
    figure.body.classList.add('tall');
  }
}

const bars = {
  tokens_per_s: {name: 'Throughput', unit: 'tokens/s', of: (run) => median(run.train.tokens_per_s)},
  step_ms: {name: 'Time per step', unit: 'ms', of: (run) => median(run.train.step_ms)},
  mfu: {name: 'Model FLOPs utilisation', unit: '%', of: (run) => 100 * median(run.train.mfu)},
  mem_gib: {name: 'Highest memory in use', unit: 'GiB', of: peakMemory},
  planned_gib:
      {name: 'Planned memory', unit: 'GiB', of: (run) => (run.start && run.start.planned_gib) ?? NaN},
  cache: {
    name: 'Inference cache per token',
    unit: 'bytes',
    of: (run) => (run.start && run.start.cache_bytes_per_token) ?? NaN
  },
  parameters: {name: 'Parameters', unit: '', of: (run) => (run.start && run.start.parameters) ?? NaN},
};
// A bar for each group: the mean over its seeds, and a mark for each seed.
function drawBars(host, {name, unit, of}) {
  const used = shownGroups(), values = used.map((group) => shownRuns(group).map(of));
  const means = values.map((v) => meanOf(v, false)),
        most = Math.max(0, ...values.flat().filter(Number.isFinite));
  const width = Math.max(260, host.clientWidth || 400), line = 36, height = used.length * line + 24;
  const text = (v) => `${Math.abs(v) >= 1e4 ? formatCount(v) : format(v, Number.isInteger(v) ? 4 : 3)}${
      unit ? ` ${unit}` : ''}`;
  const svg = element('svg', {
    class: 'plot',
    viewBox: `0 0 ${width} ${height}`,
    role: 'img',
    'aria-label': `${name}: ${used.map((group, i) => `${group.label} ${text(means[i])}`).join(', ')}`
  });
  svg.append(element('text', {class: 'panel-title', x: 0, y: 13}, name));
  used.forEach((group, i) => {
    const y = 22 + i * line, full = width - 110,
          place = (v) => (most > 0 && v > 0 ? Math.max(2, (v / most) * full) : 0);
    svg.append(
        element('text', {x: 0, y: y + 12}, group.label),
        element(
            'rect', {x: 0, y: y + 17, width: place(means[i]), height: 11, class: `fill ${group.series}`}));
    if (values[i].length > 1)
      for (const v of values[i].filter(Number.isFinite))
        svg.append(element('line', {class: 'seed-mark', x1: place(v), x2: place(v), y1: y + 15, y2: y + 30}));
    svg.append(element(
        'text',
        {x: Math.max(place(means[i]), ...values[i].filter(Number.isFinite).map(place)) + 6, y: y + 27},
        text(means[i])));
  });
  host.append(svg);
}
function addSpeed(section) {
  const available =
      Object.entries(bars).filter(([, bar]) => runs.some((run) => Number.isFinite(bar.of(run))));
  if (available.length === 0) {
    section.append(element('p', {}, 'No step has been logged yet.'));
    return;
  }
  const figure = new Figure(section, 'speed', 'Throughput and memory', (body) => {
    const hosts = makePanels(body, available.length);
    available.forEach(([, bar], i) => drawBars(hosts[i], bar));
    const used = shownGroups().flatMap(shownRuns);
    return {
      header: ['run', 'variant', 'arm', 'seed', ...available.map(([id]) => id)],
      rows: used.map(
          (run) =>
              [run.name, run.variant, run.group.arm, run.seed, ...available.map(([, bar]) => bar.of(run))]),
      caption:
          `Speeds: medians of the logged steps, diagnostics included. Memory: what was in use at most, and what the plan said. ` +
          `Bars: mean over seeds; marks: the seeds. Devices: ${
              distinct(
                  runs.map(
                      (run) => (run.env && run.env.device) || (run.start && run.start.device) || 'unknown'))
                  .join('; ')}.`
    };
  });
  redrawOn(figure);
}

function flatten(object, prefix = '') {
  return Object.entries(object || {})
      .flatMap(
          ([key, value]) =>
              (value !== null && typeof value === 'object' ? flatten(value, `${prefix}${key}.`) :
                                                             [[prefix + key, JSON.stringify(value)]]));
}
// The settings in which the shown runs differ; one column for each group where its runs agree, else one for each run.
function differingTable(section, id, title, sourceOf, aside) {
  const figure = new Figure(section, id, title, (body) => {
    const used = shownGroups().flatMap(shownRuns),
          sources = new Map(used.map((run) => [run, new Map(sourceOf(run))]));
    const keys = [...new Set(used.flatMap((run) => [...sources.get(run).keys()]))];
    const differing = keys.filter(
        (key) => !aside.test(key) && new Set(used.map((run) => sources.get(run).get(key))).size > 1);
    const columns = shownGroups().map((group) => [group.label, shownRuns(group)]);
    const value = (key, members) =>
        distinct(members.map((run) => sources.get(run).get(key) ?? '–')).join(', ');
    const rows = differing.map((key) => [key, ...columns.map(([, members]) => value(key, members))]);
    body.append(
        rows.length ? table(
                          ['setting', ...columns.map(([name]) => name)],
                          rows.map(([key, ...rest]) => [element('code', {}, key), ...rest])) :
                      element('p', {}, 'They are equal.'));
    return {
      header: ['setting', ...columns.map(([name]) => name)],
      rows,
      caption: `${differing.length} of ${
          keys.length} settings differ between the shown runs. Values of several seeds are listed.`
    };
  }, {height: 80});
  redrawOn(figure);
}
const details = (name, text) =>
    element('details', {}, element('summary', {}, name), element('pre', {tabindex: 0}, text));
function addRecipes(section) {
  if (runs.length > 1)
    differingTable(
        section, 'recipes', 'Where the recipes differ', (run) => run.recipe, /^run\.(name|dir|notes)$/);
  for (const run of runs)
    section.append(details(`Resolved recipe of ${run.name}`, run.config || 'config.toml is missing'));
}
function addProvenance(section) {
  const environment = (run) => flatten(run.env);
  if (runs.length > 1)
    differingTable(section, 'environments', 'Where the environments differ', environment, /time|pid/);
  const notes = new Map();  // note -> the runs to which it applies
  for (const run of runs)
    for (const note of run.notes) notes.set(note, [...(notes.get(note) || []), run.name]);
  if (notes.size)
    section.append(element(
        'div', {class: 'notice', role: 'note'}, 'What this page leaves out:',
        element(
            'ul', {},
            ...[...notes].map(
                ([note, names]) => element(
                    'li', {},
                    `${names.length === runs.length && names.length > 1 ? 'all runs' : names.join(', ')}: ${
                        note}.`)))));
  const flags = new Map();
  for (const grid of allGrids)
    for (const [flag, count] of Object.entries(grid.flags || {})) {
      const entry = flags.get(flag) || {count: 0, matrices: new Set()};
      entry.count += count;
      entry.matrices.add(grid.matrix);
      flags.set(flag, entry);
    }
  if (flags.size)
    section.append(element(
        'div', {class: 'notice', role: 'note'}, 'Flags of the measurements:',
        element(
            'dl', {},
            ...[...flags].flatMap(
                ([flag, {count, matrices: names}]) =>
                    [element(
                         'dt', {}, element('code', {}, flag),
                         `: ${count} ${count === 1 ? 'record' : 'records'} (${[...names].join(', ')})`),
                     element(
                         'dd', {}, `${sentence(payload.flags[flag] || 'not known to this version')}.`)]))));
  for (const run of runs)
    section.append(details(
        `Environment of ${run.name}`, run.env ? JSON.stringify(run.env, null, 2) : 'env.json is missing'));
}

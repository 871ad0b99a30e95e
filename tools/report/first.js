// The first screen: the question, what was run, what the analysis says, and two rows of maps on one scale each.
const kQuestion =
    'Does compressing keys and values, and where rotary is applied, make capacity collapse early in pretraining?';

const list = (items) => items.filter(Boolean).join(' · ');
const between = (values, text = (v) => v) => {
  const all = sorted(values.filter(Number.isFinite));
  if (all.length === 0) return '';
  const ends = distinct([text(all[0]), text(last(all))]);
  return ends.join(' to ');
};
const distinct = (values) => [...new Set(values.filter(Boolean))];

// What was run, as short texts.
function facts() {
  const first = runs[0], of = (name) => distinct(runs.map((run) => run.setting(name)));
  const models = distinct(runs.map((run) => run.setting('model.preset')));
  const sizes = between(runs.map((run) => run.start && run.start.parameters), formatCount);
  const data = distinct(runs.map((run) => run.setting('data.dir') || run.setting('data.train'))
                            .map((path) => path && path.split('/').filter(Boolean).slice(-2).join('/')));
  const steps = between(runs.map((run) => last(run.train.step)), (v) => String(v));
  const tokens = between(runs.map((run) => last(run.train.tokens)), formatCount);
  const seeds = Math.max(...groups.map((group) => new Set(group.runs.map((run) => run.seed)).size));
  const devices = distinct(runs.map((run) => (run.env && run.env.device) || (run.start && run.start.device)));
  return [
    ['model', list([models.join(', '), sizes && `${sizes} parameters`])],
    ['data', list([data.join(', '), of('data.seq_len').length && `T ${of('data.seq_len').join(', ')}`])],
    ['steps', list([steps, tokens && `${tokens} tokens`])],
    ['peak lr', of('train.lr').map((lr) => String(Number(lr))).join(', ')],
    ['runs', `${runs.length}`],
    ['seeds', `${seeds}${groups.some((g) => g.runs.length < seeds) ? ' at most' : ''}`],
    ['device', devices.join('; ')],
    [
      'date',
      payload.date ||
          (first.start && first.start.time ? new Date(first.start.time * 1000).toISOString().slice(0, 10) :
                                             '')
    ],
  ].filter(([, text]) => text);
}

const verdictClass = (verdict) =>
    `verdict ${{'supported': 'yes', 'contradicted': 'no', 'depends on': 'maybe'}[verdict] || 'open'}`;
const dimensionNames = {
  scope: 'layers or heads'
};
const verdictText = ({verdict, depends_on: on}) =>
    (verdict === 'depends on' && on && on.length ?
         `depends on ${on.map((d) => dimensionNames[d] || d).join(', ')}` :
         verdict);

// The analysis writes a sentence with the numbers that stand in it.
const textOf = (words) => (words && words.text !== undefined ? words.text : words || '');

// A sentence without its brackets (intervals, parts of forms, p-values), which the section of the findings has in full.
const briefly = (text) => text.replace(/ \([^()]*\)/g, '').replace(/ %/g, '\u00a0%');

function addWords(host) {
  const words = element('div', {class: 'words'});
  if (analysis.findings && analysis.findings.length)
    words.append(element(
        'ol', {class: 'findings', 'aria-label': 'The three findings of the paper'},
        ...analysis.findings.map(
            (finding) => element(
                'li', {title: `${verdictText(finding)}. ${textOf(finding.because)}`},
                element('b', {}, finding.id), element('span', {}, finding.claim),
                element(
                    'span', {class: verdictClass(finding.verdict)}, finding.verdict.replace(/ on$/, ''),
                    element(
                        'span', {class: 'on'},
                        verdictText(finding).slice(finding.verdict.replace(/ on$/, '').length)))))));
  if (analysis.sentences && analysis.sentences.length)
    words.append(element(
        'ul', {class: 'sentences', tabindex: 0},
        ...analysis.sentences.map((s) => element('li', {title: textOf(s)}, briefly(textOf(s))))));
  host.append(words);
}

// Sentences have the height of the table next to them, or more where the maps leave it; longer ones scroll, and stand in the
// section of the findings in full.
const kLeastMaps = 332;  // pixels of title, two rows of maps, axes and caption
function fitSentences() {
  const words = document.querySelector('.sentences'), table = byId('f-verdicts');
  if (!words || !table) return;
  words.style.maxHeight = '';
  const {top, bottom} = words.getBoundingClientRect(), beside = table.getBoundingClientRect();
  if (beside.top < bottom) {
    const spare = hasMetrics ? byId('first').getBoundingClientRect().bottom - kLeastMaps - top : Infinity;
    words.style.maxHeight =
        spare < Infinity ? `${Math.floor(Math.max(beside.bottom - top, spare, 40))}px` : 'none';
  }
  words.classList.toggle('long', words.scrollHeight > words.clientHeight + 1);
}

// The table of the first screen: rows are the matrices of each group.
function verdictRows() {
  const rows = [],
        ownOf = (group) => groups.find((g) => g.runs.some((run) => (group.runs || []).includes(run.name)));
  const place = (group) => (ownOf(group) || {index: groups.length}).index;
  const all = [...(analysis.groups || [])].sort((a, b) => place(a) - place(b));
  for (const group of all) {
    const own = ownOf(group);
    if (own && (!isAnyShown(own) || !isInArm(own))) continue;
    const measured = group.matrices || {},
          of = (matrix, scope) => measured[matrix] && measured[matrix][scope];
    const forms = ['qk', 'qk_content', 'qk_rope'];
    const scope = forms.some((matrix) => of(matrix, 'layer')) ? 'layer' : 'head';
    for (const matrix of forms)
      if (of(matrix, scope)) rows.push({group, own, matrix, forms: of(matrix, scope)});
  }
  return rows;
}
const shortNull = {
  product: 'prod',
  profile: 'prof',
  permuted: 'perm'
};
const interval = (mi, text) =>
    (!mi || !Number.isFinite(mi.mean) ?
         'not measured' :
         `${text(mi.mean)}${
             Number.isFinite(mi.low) ? `, 95 % interval ${text(mi.low)} to ${text(mi.high)}` :
                                       ''}, ${mi.n} ${mi.n === 1 ? 'seed' : 'seeds'}`);
const stepText = (step) => (Number.isFinite(step) ? String(Math.round(step)) : '–');
function drawVerdicts(body) {
  const rows = verdictRows();
  if (rows.length === 0) {
    body.append(hint('No query-key form of the shown runs was measured.'));
    return null;
  }
  const used = nullOrder.filter((nul) => rows.some(({forms}) => (forms.nulls || {})[nul]));
  const of = ({forms}, nul) => (forms.nulls || {})[nul];
  const edge = (value) => (value === undefined ? null : value);
  const cell = (mi, text, unit = '') =>
      element('td', {class: 'number', title: `${unit}${interval(mi, text)}`}, mi ? text(edge(mi.mean)) : '–');
  const first = (onsets, threshold) => onsets && onsets[threshold] && onsets[threshold].first_step;
  const columns = [
    ['kept, least', ({forms}) => [forms.kept.step0 && forms.kept.step0.least, percent]],
    ['kept, end', ({forms}) => [forms.kept.step0 && forms.kept.step0.final, percent]],
    ...used.map((nul) => [`peak ${nul}`, (row) => [of(row, nul) && of(row, nul).peak_ratio, ratioText]]),
    ...used.map((nul) => [`outliers ${nul}`, (row) => [of(row, nul) && of(row, nul).outliers, ratioText]]),
    ['first spike', (row) => [first(of(row, used[0]) && of(row, used[0]).spike, '2'), stepText]],
    ['first collapse', ({forms}) => [first(forms.collapse, '0.5'), stepText]],
  ];
  const data = {
    header:
        ['variant', 'arm', 'matrix', ...columns.flatMap(([name]) => [name, `${name} low`, `${name} high`])],
    rows: rows.map((row) => [row.group.variant, row.group.arm, row.matrix, ...columns.flatMap(([, value]) => {
                     const mi = value(row)[0] || {};
                     return [mi.mean, mi.low, mi.high];
                   })]),
    caption:
        `Means over seeds; point at a number for its interval. Kept: stable rank over step 0. Spike: above 2 edges, null ${
            used[0]}; collapse: below 50 %.`
  };
  // A narrow screen shows a list for each form instead of the table; paper has the table from any screen.
  const text = (row, [, value]) => (([mi, show]) => (mi ? show(mi.mean) : '–'))(value(row));
  const group = (row, from, count, names) =>
      names.map((name, i) => `${name}\u00a0${text(row, columns[from + i])}`).slice(0, count).join(' · ');
  const some = used.map((nul) => shortNull[nul] || nul), n = used.length;
  body.append(element(
      'div', {class: 'forms'},
      ...rows.map(
          (row) => element(
              'dl', {class: 'form'},
              element(
                  'dt', {}, row.own ? swatch(row.own) : '',
                  `${row.group.variant} ${shortMatrix[row.matrix]}`),
              element('dd', {}, `kept rank: ${group(row, 0, 2, ['least', 'end'])}`),
              element('dd', {}, `peak λmax / edge: ${group(row, 2, n, some)}`),
              element('dd', {}, `outliers at the end: ${group(row, 2 + n, n, some)}`),
              element('dd', {}, `first step: ${group(row, 2 + 2 * n, 2, ['spike', 'collapse'])}`)))));
  const head = element(
      'thead', {},
      element(
          'tr', {}, element('th', {rowspan: 2}, 'form'),
          element('th', {colspan: 2, class: 'mid'}, 'kept rank'),
          element('th', {colspan: used.length, class: 'mid'}, 'peak λmax / edge'),
          element('th', {colspan: used.length, class: 'mid'}, 'outliers at the end'),
          element('th', {colspan: 2, class: 'mid'}, 'first step')),
      element(
          'tr', {},
          ...['least', 'end', ...used, ...used, 'spike', 'collapse'].map(
              (text) => element('th', {class: 'number', title: text}, shortNull[text] || text))));
  const lines = rows.map((row, i) => {
    const fresh = i === 0 || rows[i - 1].group !== row.group;
    return element(
        'tr', {class: fresh ? 'fresh' : null},
        element(
            'th', {scope: 'row'},
            row.own && fresh ? element('span', {class: `swatch ${row.own.series}`, 'aria-hidden': 'true'}) :
                               null,
            fresh ? `${row.group.variant} ` : element('span', {class: 'indent'}),
            element('span', {class: 'faint'}, shortMatrix[row.matrix])),
        ...columns.map(([name, value]) => cell(...value(row), `${name}: `)));
  });
  body.append(element(
      'div', {class: 'scroll'}, element('table', {class: 'verdicts'}, head, element('tbody', {}, ...lines))));
  return data;
}

// The forms that a group shows on the first screen: those that it has, each in a column.
function formsOf(group) {
  const perHead = state.forms !== 'layer';
  const has = (matrix) => shownRuns(group).some((run) => anyGridOf(run, matrix, perHead));
  const forms = ['qk', 'qk_content', 'qk_rope'].filter(has);
  return forms.length ? forms : matrices.filter(has).slice(0, 1);
}
function drawFirstMaps(body, output) {
  const used = shownGroups().filter(isInArm);
  const columns =
      used.flatMap((group) => formsOf(group).map((matrix, i) => ({group, matrix, first: i === 0})));
  if (columns.length === 0) {
    body.append(hint('No query-key form of the shown runs was measured.'));
    return null;
  }
  const width = Math.max(280, Math.round(body.clientWidth || 900)), left = 40, right = 74,
        narrow = width < 640;
  const perLine = narrow ? Math.min(2, columns.length) : columns.length,
        blocks = Math.ceil(columns.length / perLine);
  const gap = 5, apart = 12;
  const apartCount = (from, count) => columns.slice(from + 1, from + count).filter((c) => c.first).length;
  const room = width - left - right;
  // What the words leave of the window, less the readout and the caption below the maps.
  const below = byId('first').getBoundingClientRect().bottom - body.getBoundingClientRect().top;
  const available = narrow ? 0 : below - (width < 1200 ? 64 : 58);
  const head = 30, between = 14, foot = 34;
  const each = Math.max(92, Math.min(270, (available - head - between - foot) / 2 || 0));
  const block = head + 2 * each + between + foot;
  const [keptRows, spikeRows] = {layer: ['layer', 'layer'], mean: ['mean', 'mean'], worst: [
                                   'min', 'max'
                                 ]}[state.forms];
  const kept = state.keptOf === 'null' ? 'kept_null' : 'kept_step0';
  const make = (metric, rows) =>
      columns.map(({group, matrix}) => mapOf(group, {matrix, metric, view: 'raw', rows, nul: state.null}));
  const keptMaps = make(kept, keptRows), spikeMaps = make('mp_gap_ratio', spikeRows);
  const keptColours = keptScale(valuesOf(keptMaps)), spikeColours = spikeScale(valuesOf(spikeMaps));
  const sheet = new MapSheet(
      body, width, Math.floor(blocks * block),
      `Capacity kept and spike by layer and step: ${used.map((group) => group.label).join(', ')}`, output);
  for (let b = 0; b < blocks; ++b) {
    const from = b * perLine, count = Math.min(perLine, columns.length - from);
    const total = room - gap * (count - 1) - (apart - gap) * apartCount(from, count);
    const one = narrow ? total / perLine : total / count;
    let x = left;
    for (let i = 0; i < count; ++i) {
      const {group, matrix, first} = columns[from + i], y = b * block + head;
      if (i > 0) x += first ? apart : gap;
      if (first || i === 0) {
        const own = columns.slice(from, from + count).filter((c) => c.group === group).length;
        const wide = one * own + gap * (own - 1), size = Math.min(12.5, wide / (0.63 * group.variant.length));
        sheet.svg.append(
            element('rect', {class: `fill ${group.series}`, x, y: y - 15.5, width: wide, height: 2}),
            element(
                'text', {class: 'panel-title', x, y: y - 18, style: `font-size:${size}px`}, group.variant));
      }
      sheet.text(x, y - 4, formLabel(matrix), {class: 'small faint'});
      [[keptMaps, keptColours, kept, keptRows], [spikeMaps, spikeColours, 'mp_gap_ratio', spikeRows]].forEach(
          ([maps, scale, metric, reduction], row) => {
            const box = {x, y: y + row * (each + between), width: one, height: each};
            const place = {map: maps[from + i], box, scale, metric, view: 'raw', group, matrix, reduction};
            sheet.add(place);
            if (row === 1) sheet.stepAxis(place);
            if (i === 0) sheet.layerAxis(place);
          });
      x += one;
    }
    const y = b * block + head,
          axis = (text, at) => sheet.svg.append(element(
              'text',
              {class: 'axis-label', transform: `translate(11 ${at}) rotate(-90)`, 'text-anchor': 'middle'},
              text));
    axis('layer', y + each / 2);
    axis('layer', y + each * 1.5 + between);
    sheet.text(
        left + (width - left - right) / 2, y + 2 * each + between + 30, 'step',
        {class: 'axis-label', 'text-anchor': 'middle'});
    const bar = width - right + 14;
    sheet.svg.append(
        ...colourBar(keptColours, bar, y + 8, each - 16, 'kept'),
        ...colourBar(spikeColours, bar, y + each + between + 8, each - 16, 'spike'));
  }
  sheet.finish();
  const nulText =
      state.keptOf === 'null' ? 'the stable rank that its product null expects' : 'its stable rank at step 0';
  return {
    header: mapHeader,
    rows: mapRows(sheet.places),
    legend: false,
    caption: `Upper row, capacity kept: stable rank over ${nulText} (${
        keptColours.note}). Lower row, spike: largest eigenvalue over the edge of the null ${state.null} (${
        spikeColours.note}). One scale for all; one column a measurement; means over seeds.`
  };
}
const formLabel = (matrix) => shortMatrix[matrix] || matrixLabel(matrix);

function addFirst(section) {
  byId('question').textContent = payload.title || kQuestion;
  document.title =
      `${payload.title || 'Pastur report'}: ${distinct(groups.map((g) => g.variant)).join(', ')}`;
  if (payload.title) byId('question').after(element('p', {class: 'subtitle'}, kQuestion));
  byId('facts').append(...facts().map(
      ([name, text]) => element('span', {'data-fact': name}, element('b', {}, name), ` ${text}`)));
  const notes = distinct([payload.notes, ...runs.map((run) => run.setting('run.notes'))]);
  if (notes.length)
    byId('facts').append(
        element('span', {class: 'run-notes'}, element('b', {}, 'notes'), ` ${notes.join(' · ')}`));
  const answer = element('div', {class: 'answer'});
  section.append(answer);
  addWords(answer);
  redrawOn(new Figure(answer, 'verdicts', 'Verdict table', drawVerdicts, {height: 0}), 'arm');
  if (!hasMetrics) {
    section.append(element(
        'p', {class: 'notice'},
        'No spectra were measured in these runs. To measure them, set diagnostics.every in the recipe.'));
    return;
  }
  const figure = new Figure(section, 'first', 'Capacity kept and spike', drawFirstMaps, {height: 0});
  figure.controls.append(
      arms.length > 1 ? picker('Arm', 'arm', arms.map((arm) => [arm, arm || 'base'])) : '',
      picker('Kept of', 'keptOf', [['step0', 'step 0'], ['null', 'product null']]),
      nulls.length ? picker('Spike against', 'null', nulls.map((n) => [n, n])) : '',
      headCount > 0 ?
          picker(
              'Forms', 'forms', [['layer', 'layers'], ['mean', 'mean of heads'], ['worst', 'worst head']]) :
          '');
  redrawOn(figure, 'arm', 'keptOf', 'null', 'forms');
}

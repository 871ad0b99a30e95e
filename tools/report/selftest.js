// report.html#selftest uses every control of the page and writes the result into the document, for
// tests/tools/report_page_test.cpp. The laws are held against numbers that were found by sampling.
async function selfTest() {
  const failures = [];
  const check = (ok, what) => {
    if (!ok) failures.push(what);
  };
  window.addEventListener('error', (event) => failures.push(`error: ${event.message}`));
  testLaws(check);
  testDecoding(check);
  for (const notice of document.querySelectorAll('.notice'))
    check(!notice.textContent.includes('not known to this version'), 'a flag without a meaning');
  let used = 0;
  const drawn = () => figures.map((figure) => figure.body.innerHTML + figure.caption.textContent).join('');
  const fine = (what) =>
      check(!/NaN|undefined|Infinity|\[object/.test(drawn()), `${what} draws something that is no number`);
  fine('the page as it opens');
  for (const select of document.querySelectorAll('select')) {
    const before = select.selectedIndex;
    for (let i = 0; i < select.options.length; ++i) {
      select.selectedIndex = i;
      select.dispatchEvent(new Event('change'));
      check(select.selectedIndex === i, `${select.name} does not keep option ${i}`);
      fine(`${select.name} = ${select.options[i].textContent}`);
      ++used;
    }
    select.selectedIndex = before;
    select.dispatchEvent(new Event('change'));
  }
  for (const range of document.querySelectorAll('input[type=range]'))
    for (const value of [range.min, range.max]) {
      range.value = value;
      range.dispatchEvent(new Event('input'));
      fine(`slider at ${value}`);
      ++used;
    }
  used += testLegend(check, fine);
  for (const svg of document.querySelectorAll('svg.plot[tabindex]')) {
    if (!svg.isConnected) continue;
    for (const key of ['ArrowRight', 'ArrowDown'])
      svg.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    ++used;
  }
  for (const id of ['first', 'maps'])
    check(
        !byId(`f-${id}`) || byId(`f-${id}`).querySelector('svg') === null ||
            byId(`f-${id}`).querySelector('output').textContent !== '',
        `the figure ${id} does not answer to arrow keys`);
  testTables(check);
  used += await testDownloads(check);
  testLayout(check);
  const verdict = failures.length === 0 ?
      `PASS: ${used} controls used, ${figures.length} figures, ${innerWidth} x ${
          innerHeight}, first screen in ${firstPaint.toFixed(0)} ms` :
      `FAIL: ${[...new Set(failures)].slice(0, 20).join('; ')}`;
  document.body.append(element('p', {id: 'selftest'}, verdict));
}

// Every group hides and comes back; a filter that nothing matches leaves no run.
function testLegend(check, fine) {
  const buttons = [...document.querySelectorAll('button.group')];
  check(buttons.length === groups.length, 'a group without a place in the legend');
  const looks = new Set(groups.map((group) => `${group.series} ${group.dash}`));
  check(looks.size === groups.length, 'two groups are drawn alike');
  for (const button of buttons) {
    const group = groups[button.dataset.group];
    button.click();
    check(
        !shownGroups().includes(group) && button.getAttribute('aria-pressed') === 'false',
        `${group.label} is not hidden`);
    fine(`hiding ${group.label}`);
    button.click();
    check(shownGroups().includes(group), `${group.label} does not come back`);
  }
  const filter = document.querySelector('input[name=filter]');
  if (!filter) return buttons.length;
  for (const [text, expected] of [['no such run', 0], [runs[0].name, 1], ['', runs.length]]) {
    filter.value = text;
    filter.dispatchEvent(new Event('input'));
    const left = groups.flatMap(shownRuns).length;
    check(expected === 1 ? left >= 1 : left === expected, `the filter "${text}" leaves ${left} runs`);
    fine(`the filter "${text}"`);
  }
  return buttons.length + 1;
}

function testTables(check) {
  for (const figure of figures) {
    const lines = figure.csv().trim().split('\n'), {header, rows} = figure.table;
    const mayBeEmpty = ['recipes', 'environments', 'verdicts'].includes(figure.id);
    check(rows.length > 0 || mayBeEmpty, `${figure.id} has no numbers to download`);
    check(
        rows.length === 0 ||
            lines.every((line) => line.split(/,(?=(?:[^"]*"[^"]*")*[^"]*$)/).length === header.length),
        `${figure.id}: ragged CSV`);
    check(figure.csvButton.getAttribute('aria-label'), `${figure.id} has no CSV button`);
  }
}

// The drawing of every figure is XML that stands alone, and a picture.
async function testDownloads(check) {
  let used = 0;
  for (const figure of figures) {
    const table = figure.body.querySelector('table');
    if (figure.svgButton.hidden) {
      // On a narrow screen the verdict table is a list.
      check(figure.table.rows.length === 0 || innerWidth <= 540, `${figure.id} has numbers but no drawing`);
      continue;
    }
    const text = figure.svg();
    const parsed = new DOMParser().parseFromString(text, 'image/svg+xml');
    const shown = table ?
        [...table.querySelectorAll('th, td')].flatMap((cell) => cell.textContent.split(/[ \n]+/)) :
        [];
    const drawn =
        new Set([...parsed.querySelectorAll('text')].flatMap((node) => node.textContent.split(' ')));
    for (const word of shown)
      check(!word || drawn.has(word), `${figure.id}: its SVG lacks "${word}" of the table`);
    check(
        parsed.querySelector('parsererror') === null && !/var\(|class=/.test(text),
        `${figure.id}: its SVG needs the page`);
    try {
      check((await figure.png()).size > 500, `${figure.id}: an empty PNG`);
    } catch (error) {
      check(false, error.message);
    }
    used += 2;
  }
  return used;
}

// The page does not scroll sideways, and on a desktop the first screen holds everything it should.
function testLayout(check) {
  for (const svg of document.querySelectorAll('svg.plot'))
    check(svg.getAttribute('aria-label'), 'a picture without a label');
  check(
      document.documentElement.scrollWidth <= document.documentElement.clientWidth + 1,
      'the page scrolls sideways');
  const first = byId('first'), box = first.getBoundingClientRect();
  if (innerWidth > 860 && innerHeight >= 760)
    check(box.bottom + scrollY <= innerHeight + 1, 'the first screen is taller than the window');
  if (innerWidth >= 1024 && innerHeight >= 768 && groups.length <= 3)
    check(!document.querySelector('.sentences.long'), 'the sentences of the first screen are cut');
  for (const child of first.querySelectorAll('figure, .words, .findings, #facts, .caption')) {
    const own = child.getBoundingClientRect();
    check(own.bottom <= box.bottom + 1, `the first screen cuts ${child.id || child.className}`);
    check(own.right <= box.right + 1, `${child.id || child.className} is wider than the first screen`);
  }
}

function testDecoding(check) {
  for (const grid of allGrids)
    for (const name of Object.keys(grid.metrics))
      check(
          numbers(grid.metrics[name], grid.size).length === grid.size,
          `${grid.matrix} ${name}: not as long as its grid`);
}

function testLaws(check) {
  for (const [index, {lower, band, points}] of laws.entries()) {
    const name = `law ${index}`;
    const rises = (key) => points.every((point, i) => i === 0 || points[i - 1][key] <= point[key]);
    check(points.length > 50 && rises('x') && rises('cdf'), `${name} is not a distribution function`);
    check(
        points[points.length - 1].x === 1 && points[points.length - 1].cdf === 1,
        `${name} does not end at its edge`);
    check(
        points[0].x >= lower * (1 - 1e-6) && points[0].cdf < 0.01,
        `${name} does not begin at its lower edge`);
    check(band[0] < band[1] && band[1] > 1, `${name} has no band at its edge`);
    // The density and the distribution function belong together, and quantile() inverts the latter.
    const area = points.reduce(
        (sum, b, i) => (i ? sum + ((points[i - 1].density + b.density) / 2) * (b.x - points[i - 1].x) : 0),
        0);
    check(Math.abs(area - 1) < 0.02, `${name} has a mass of ${area}`);
    // Between two bulks of a sum's law the distribution function is level, and has no inverse.
    let at = Math.floor(points.length / 2);
    while (at < points.length - 2 &&
           !(points[at - 1].cdf < points[at].cdf && points[at].cdf < points[at + 1].cdf))
      ++at;
    const middle = points[at], cdf = cumulative(laws[index], middle.x);
    check(
        Math.abs(quantile({points}, middle.cdf) - middle.x) < 1e-6,
        `${name}: quantile() does not invert the curve`);
    check(
        cdf >= points[at - 1].cdf - 1e-6 && cdf <= points[at + 1].cdf + 1e-6,
        `${name}: cumulative() is ${cdf} between ${points[at - 1].cdf} and ${points[at + 1].cdf}`);
  }
  // A run that is drawn from its record has the edges of its nulls, but no laws.
  const product = allGrids.filter((grid) => grid.null === 'product' && grid.has('bulk_edge'));
  check(
      product.every((grid) => lawOf(grid, last(grid.steps), grid.layers[0], grid.heads[0])),
      'a product null without a law');
}

// report.html#selftest uses every control of the page and writes the result into the document, for
// tests/tools/report_page_test.cpp. The laws are held against numbers that were found by sampling.
function selfTest() {
  const failures = [];
  const check = (ok, what) => {
    if (!ok) failures.push(what);
  };
  window.addEventListener('error', (event) => failures.push(`error: ${event.message}`));
  testLaws(check);
  for (const notice of document.querySelectorAll('p.notice'))
    check(!notice.textContent.includes('not known to this version'), 'a flag without a meaning');
  let used = 0;
  const drawn = () => figures.map((figure) => figure.body.innerHTML).join('');
  const fine = (what) =>
      check(!/NaN|undefined|Infinity/.test(drawn()), `${what} draws something that is no number`);
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
  for (const box of document.querySelectorAll('input[type=checkbox]'))
    for (let i = 0; i < 2; ++i) {
      box.click();
      fine(box.name);
      ++used;
    }
  for (const svg of document.querySelectorAll('svg.plot[tabindex]')) {
    if (!svg.isConnected) continue;
    for (const key of ['ArrowRight', 'ArrowDown'])
      svg.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    ++used;
  }
  check(
      !hasMetrics || byId('f-heatmap').querySelector('output').textContent !== '',
      'the heatmap does not answer to arrow keys');
  for (const figure of figures) {
    const lines = figure.csv().trim().split('\n');
    check(
        lines.length > 1 || figure.id === 'recipes',
        `${figure.id} has no numbers to download`);  // recipes may agree
    check(
        lines.every(
            (line) => line.split(/,(?=(?:[^"]*"[^"]*")*[^"]*$)/).length === figure.table.header.length),
        `${figure.id}: ragged CSV`);
    check(figure.node.querySelector('button[aria-label]') !== null, `${figure.id} has no CSV button`);
  }
  for (const svg of document.querySelectorAll('svg.plot'))
    check(svg.getAttribute('aria-label'), 'a picture without a label');
  check(
      document.documentElement.scrollWidth <= document.documentElement.clientWidth + 1,
      'the page scrolls sideways');
  const verdict = failures.length === 0 ? `PASS: ${used} controls used, ${figures.length} figures` :
                                          `FAIL: ${[...new Set(failures)].slice(0, 20).join('; ')}`;
  document.body.append(element('p', {id: 'selftest'}, verdict));
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
    const middle = points[Math.floor(points.length / 2)];
    check(
        Math.abs(quantile({points}, middle.cdf) - middle.x) < 1e-6,
        `${name}: quantile() does not invert the curve`);
  }
  const product = allGrids.filter((grid) => grid.null === 'product');
  check(
      product.every((grid) => lawOf(grid, last(grid.steps), grid.layers[0], grid.heads[0])),
      'a product null without a law');
}

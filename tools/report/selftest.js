// report.html#selftest uses every control of the page and writes the result into the document, for
// tests/tools/report_page_test.cpp. The laws are held against numbers that were found by sampling.
function selfTest() {
  const failures = [];
  const check = (ok, what) => {
    if (!ok) failures.push(what);
  };
  window.addEventListener('error', (event) => failures.push(`error: ${event.message}`));
  testLaws(check);
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
  const near = (value, expected, tolerance, what) =>
      check(Math.abs(value - expected) <= tolerance, `${what}: ${value}, expected ${expected}`);
  for (const [dims, upper, lower] of [
           [[768, 768, 768], 6.75, 0], [[768, 64, 768], 2.037, 0.378], [[768, 32, 768], 1.686, 0.522],
           [[768, 768, 384, 768], 5.841, 0.011]]) {
    const law = productLaw(dims);
    near(law.upper, upper, 6e-4, `edge of ${dims}`);
    near(law.lower, lower, 1e-3, `lower edge of ${dims}`);
    let mass = 0;
    for (let i = 1; i < law.points.length; ++i)
      mass +=
          ((law.points[i].density + law.points[i - 1].density) / 2) * (law.points[i].x - law.points[i - 1].x);
    if (lower > 0.1) near(mass, 1, 2e-3, `mass of ${dims}`);
  }
  // One term is the product itself.
  const product = productLaw([768, 64, 768]);
  const variance = 1 / product.scale / product.upper;
  const sum = sumLaw([{dims: [768, 64, 768], variance}], product.lower / product.upper, 1);
  for (const p of [0.05, 0.3, 0.5, 0.7, 0.95])
    near(quantile(sum, p) * product.upper, quantile(product, p), 2e-3, `${p} quantile of a sum of one`);
  near(sum.tw.high * product.upper, product.tw.high, 5e-3, '99 % of the largest of a sum of one');
  near(quantile(productLaw([768, 768, 768]), 0.5), 0.318, 2e-3, 'median of 768.768.768');
  near(productLaw([768, 64, 768]).tw.high, 2.13, 5e-3, '99 % of the largest of 768.64.768');
  near(productLaw([768, 768, 768]).tw.high, 6.93, 1e-2, '99 % of the largest of 768.768.768');
  near(quantile(marchenkoPastur(1), 0.5), 0.6528, 2e-3, 'median of Marchenko-Pastur');
}

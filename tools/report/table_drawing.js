// A table of the page as a drawing: its backgrounds, lines and words where they stand.

// The words of a text node by lines: [{text, rect}].
function linesOf(node) {
  const lines = [], range = document.createRange();
  for (const word of node.data.matchAll(/[^ \n]+/g)) {
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    const rect = range.getBoundingClientRect(), line = lines[lines.length - 1];
    if (rect.width === 0) continue;
    if (line && Math.abs(line.rect.top - rect.top) < 2)
      line.text += ` ${word[0]}`;
    else
      lines.push({text: word[0], rect});
  }
  return lines;
}

const isPainted = (colour) => colour !== 'transparent' && !/, 0\)$/.test(colour);

// The background and the borders of a cell, and the coloured squares in it.
function cellDrawing(cell, place) {
  const style = getComputedStyle(cell), {x, y, width, height} = place(cell.getBoundingClientRect()),
        parts = [];
  if (isPainted(style.backgroundColor))
    parts.push(element('rect', {x, y, width, height, fill: style.backgroundColor}));
  for (const [side, at] of [['Top', y], ['Bottom', y + height]])
    if (parseFloat(style[`border${side}Width`]) > 0)
      parts.push(element(
          'line',
          {x1: x, x2: x + width, y1: at, y2: at, stroke: style[`border${side}Color`], 'stroke-width': 1}));
  for (const square of cell.querySelectorAll('.swatch'))
    parts.push(element(
        'rect', {...place(square.getBoundingClientRect()), fill: getComputedStyle(square).backgroundColor}));
  return parts;
}

function tableDrawing(table) {
  const box = table.getBoundingClientRect();
  const place = (rect) =>
      ({x: rect.left - box.left, y: rect.top - box.top, width: rect.width, height: rect.height});
  const parts = [...table.querySelectorAll('th, td')].flatMap((cell) => cellDrawing(cell, place));
  const texts = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const style = getComputedStyle(texts.currentNode.parentElement);
    for (const {text, rect} of linesOf(texts.currentNode)) {
      const {x, y, height} = place(rect);
      parts.push(element(
          'text', {
            x: x.toFixed(1),
            y: (y + 0.79 * height).toFixed(1),  // the baseline
            'font-size': style.fontSize,
            'font-weight': style.fontWeight,
            fill: style.color
          },
          text));
    }
  }
  return element('svg', {}, ...parts);
}

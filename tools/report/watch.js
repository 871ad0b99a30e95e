// A page whose runs go on is written again (`pastur report --watch`). It reloads itself, with the reader's choices, which
// are in the address, the place to which it was scrolled, the opened details and the focus.
const reloadEvery = payload.reload ? 1000 * payload.reload : 0;
const kUndisturbed = 2000;  // milliseconds without input before a reload
let lastInput = -kUndisturbed, updates = true;

// What a reload keeps beside the address. Elements are known by their place in the document or by their name.
function keepPlace() {
  const details = [...document.querySelectorAll('details')];
  const focus = document.activeElement;
  return {
    x: scrollX,
    y: scrollY,
    open: details.flatMap((detail, i) => (detail.open ? [i] : [])),
    focus: (focus && focus.name) || '',
  };
}
function restorePlace({x, y, open, focus}) {
  const details = document.querySelectorAll('details');
  for (const i of open)
    if (details[i]) details[i].open = true;
  const focused = focus && document.querySelector(`[name="${CSS.escape(focus)}"]`);
  if (focused) focused.focus({preventScroll: true});
  scrollTo(x, y);
}

function reloadWhenUndisturbed() {
  if (!updates) return;
  if (performance.now() - lastInput < kUndisturbed) {
    setTimeout(reloadWhenUndisturbed, kUndisturbed);
    return;
  }
  try {
    history.replaceState({place: keepPlace()}, '', location.href);
  } catch { /* a sandboxed frame may forbid it; the page then opens at its top */
  }
  location.reload();
}

// A line that says that the page is alive, and a button that holds it still.
function liveLine() {
  const time = new Date().toLocaleTimeString();
  const text = element('span', {}, `Runs are going on; loaded at ${time}. `);
  const button = element(
      'button', {
        type: 'button',
        name: 'updates',
        onclick: () => {
          updates = !updates;
          button.textContent = updates ? 'Hold still' : 'Follow again';
          if (updates) reloadWhenUndisturbed();
        }
      },
      'Hold still');
  return element('p', {id: 'live', role: 'status'}, text, button);
}

const keptPlace = history.state && history.state.place;
// Called when everything is drawn. A page that was written for the last time keeps its place as well.
function followRuns() {
  if (keptPlace) {
    restorePlace(keptPlace);
    history.replaceState(null, '', location.href);
  }
  if (!reloadEvery) return;
  for (const kind of ['pointerdown', 'pointermove', 'keydown', 'input', 'wheel', 'touchmove'])
    window.addEventListener(kind, () => {
      lastInput = performance.now();
    }, {passive: true});
  setTimeout(reloadWhenUndisturbed, reloadEvery);
}
if (reloadEvery) history.scrollRestoration = 'manual';

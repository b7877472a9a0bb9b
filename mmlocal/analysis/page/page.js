/* Values under the pointer. All else works without a script. */
'use strict';
for (const plot of document.querySelectorAll('.plot')) {
  const source = plot.querySelector('script');
  if (source) readValues(plot, JSON.parse(source.textContent));
}

function readValues(plot, data) {
  const svg = plot.querySelector('svg');
  const layer = svg.appendChild(make('g'));
  const tip = plot.appendChild(document.createElement('div'));
  tip.className = 'tip';
  tip.hidden = true;
  const leave = () => {
    tip.hidden = true;
    layer.replaceChildren();
  };
  svg.addEventListener('pointerleave', leave);
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [low, high, left, right] = data.x;
    const at = (event.clientX - box.left) * scale;
    if (at < left - 12 || at > right + 12) return leave();
    const target = low + ((at - left) / (right - left)) * (high - low);
    const found = data.lines.filter(isShown).map((line) => {
      const index = nearest(line, target);
      return { line, x: line.x[index], y: line.y[index] };
    }).filter((one) => one.y !== undefined);
    if (!found.length) return leave();
    const x = found.reduce((a, b) =>
      Math.abs(b.x - target) < Math.abs(a.x - target) ? b : a).x;
    // Other runs log at other places: what is beside counts as there.
    const here = found.filter((one) =>
      Math.abs(one.x - x) <= 0.015 * (high - low));
    show(x, here, box, scale);
  });

  function show(x, here, box, scale) {
    const log = data.y.log && document.getElementById('log').checked;
    const [bottomValue, topValue, bottom, top] = data.y[log ? 'log' : 'lin'];
    const [low, high, left, right] = data.x;
    const px = left + ((x - low) / (high - low)) * (right - left);
    layer.replaceChildren(make('path', {
      class: 'pointer', d: `M${px} ${bottom}V${top}` }));
    const name = data.xNames.find(([value]) => value === x);
    const head = document.createElement('b');
    head.textContent = `${data.xLabel}: ${name ? name[1] : text(x)}`;
    tip.replaceChildren(head);
    here.sort((a, b) => b.y - a.y);
    for (const { line, x: own, y } of here) {
      const f = log ? Math.log : (v) => v;
      const py = bottom + ((f(y) - f(bottomValue)) /
        (f(topValue) - f(bottomValue))) * (top - bottom);
      if (Number.isFinite(py)) {
        const ownPx = left + ((own - low) / (high - low)) * (right - left);
        layer.append(make('circle', { class: `spot ${line.css}`,
          style: line.style, cx: ownPx, cy: py, r: 4 }));
      }
      const row = tip.appendChild(document.createElement('div'));
      const swatch = row.appendChild(document.createElement('i'));
      swatch.className = line.css;
      swatch.style = line.style;
      for (const words of [line.name, text(y)]) {
        row.appendChild(document.createElement('span')).textContent = words;
      }
    }
    tip.hidden = false;
    const beside = px / scale;
    const room = box.width - beside > tip.offsetWidth + 16;
    tip.style.left = `${room ? beside + 12
      : Math.max(0, beside - tip.offsetWidth - 12)}px`;
  }
}

function isShown(line) {
  const run = /(?:^| )run(\d+)/.exec(line.css);
  return !run || document.getElementById(`show${run[1]}`).checked;
}

function nearest(line, target) {
  let best;
  line.x.forEach((x, index) => {
    if (line.y[index] !== null && (best === undefined ||
        Math.abs(x - target) < Math.abs(line.x[best] - target))) best = index;
  });
  return best;
}

function make(name, attributes = {}) {
  const element = document.createElementNS(
    document.querySelector('svg').namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  return element;
}

function text(value) {
  return String(Number(value.toPrecision(5)));
}

// Printed, the numbers stand below the figures.
addEventListener('beforeprint', () => {
  for (const one of document.querySelectorAll('details')) one.open = true;
});

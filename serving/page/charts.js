// SVG made by hand: the interval bar, the odds of a comparison, a reason's bar, the scatter.

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  for (const child of children) node.append(child);
  return node;
}

const title = (text) => { const node = svg("title"); node.textContent = text; return node; };
const text = (x, y, words, attributes = {}) => { const node = svg("text", { x, y, ...attributes }); node.textContent = words; return node; };
export const short = (v) => typeof v !== "number" ? (v ?? "–") : Math.abs(v) >= 1e4 || (v && Math.abs(v) < 1e-3) ? v.toExponential(1) : String(+v.toPrecision(4));

// One checkpoint's score and interval on the scale low..high.
export function interval(row, low, high, top) {
  const x = (v) => 2 + (v - low) / (high - low || 1) * 96;
  const words = `score ${short(row.score)}, from ${short(row.interval[0])} to ${short(row.interval[1])}`;
  return svg("svg", { viewBox: "0 0 100 18", preserveAspectRatio: "none", class: top ? "bar top" : "bar", role: "img", "aria-label": words },
    title(words),
    svg("line", { x1: x(row.interval[0]), x2: x(row.interval[1]), y1: 9, y2: 9, "vector-effect": "non-scaling-stroke", opacity: .45 }),
    svg("line", { x1: x(row.score) - .01, x2: x(row.score), y1: 9, y2: 9, "vector-effect": "non-scaling-stroke", style: "stroke-width:9" }));
}

// P(a beats b) as a divided bar, its interval as a band.
export function odds(answer) {
  const p = answer.probability * 400, [low, high] = answer.interval.map((v) => v * 400);
  const words = `P(${answer.a} beats ${answer.b}) = ${answer.probability.toFixed(3)}, from ${answer.interval[0].toFixed(3)} to ${answer.interval[1].toFixed(3)}`;
  return svg("svg", { viewBox: "0 0 400 44", class: "odds", role: "img", "aria-label": words }, title(words),
    svg("rect", { x: 0, y: 0, width: p, height: 20, class: "fill-a", rx: 4 }),
    svg("rect", { x: p, y: 0, width: 400 - p, height: 20, class: "fill-b", rx: 4 }),
    svg("rect", { x: low, y: 0, width: Math.max(1, high - low), height: 20, class: "band" }),
    svg("line", { x1: p, x2: p, y1: 0, y2: 20, class: "cut" }),
    svg("line", { x1: 200, x2: 200, y1: 22, y2: 28, stroke: "currentColor" }),
    text(0, 40, `${(answer.probability * 100).toFixed(0)} %`), text(200, 40, "even", { "text-anchor": "middle", class: "soft" }),
    text(400, 40, `${(100 - answer.probability * 100).toFixed(0)} %`, { "text-anchor": "end" }));
}

// What one feature says: to the left for a, to the right for b.
export function reason(contribution, largest) {
  const width = Math.abs(contribution) / largest * 96, forA = contribution > 0;
  return svg("svg", { viewBox: "0 0 200 14", role: "img", "aria-label": `${forA ? "for the first" : "for the second"}, ${short(Math.abs(contribution))}` },
    svg("line", { x1: 100, x2: 100, y1: 0, y2: 14, class: "axis" }),
    svg("rect", { x: forA ? 100 - width : 100, y: 3, width: Math.max(width, .5), height: 8, rx: 2, class: forA ? "fill-a" : "fill-b" }));
}

// points: [{name, x, y, mark}]
export function scatter(points, labels, pick) {
  const W = 520, H = 250, left = 52, bottom = 36, top = 10, right = 12;
  const range = (values) => { const lo = Math.min(...values), hi = Math.max(...values), pad = (hi - lo || Math.abs(hi) || 1) * .05; return [lo - pad, hi + pad]; };
  const [x0, x1] = range(points.map((p) => p.x)), [y0, y1] = range(points.map((p) => p.y));
  const x = (v) => left + (v - x0) / (x1 - x0) * (W - left - right), y = (v) => H - bottom - (v - y0) / (y1 - y0) * (H - bottom - top);
  const figure = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${labels.y} against ${labels.x}, ${points.length} checkpoints` });
  for (let i = 0; i <= 4; i++) {
    const vy = y0 + (y1 - y0) * i / 4, vx = x0 + (x1 - x0) * i / 4;
    figure.append(svg("line", { x1: left, x2: W - right, y1: y(vy), y2: y(vy), class: "axis" }),
      text(left - 6, y(vy) + 4, short(+vy.toPrecision(3)), { "text-anchor": "end", class: "soft" }),
      text(x(vx), H - bottom + 15, short(+vx.toPrecision(3)), { "text-anchor": i === 4 ? "end" : "middle", class: "soft" }));
  }
  figure.append(text((W + left) / 2, H - 4, labels.x, { "text-anchor": "middle" }), text(0, 0, labels.y, { "text-anchor": "middle", transform: `translate(11 ${(H - bottom) / 2}) rotate(-90)` }));
  const order = { "": 0, top: 1, a: 2, b: 2 };
  for (const p of [...points].sort((m, n) => order[m.mark] - order[n.mark])) {
    const dot = svg("circle", { cx: x(p.x), cy: y(p.y), r: p.mark === "a" || p.mark === "b" ? 6.5 : 4.2, class: `dot ${p.mark}` }, title(`${p.name}: ${labels.x} ${short(p.x)}, ${labels.y} ${short(p.y)}`));
    dot.addEventListener("click", () => pick(p.name));
    figure.append(dot);
    if (p.mark !== "a" && p.mark !== "b") continue;
    const right = x(p.x) < W * .6;
    figure.append(text(x(p.x) + (right ? 10 : -10), y(p.y) + 4, p.name.length > 24 ? `${p.name.slice(0, 23)}…` : p.name, { "text-anchor": right ? "start" : "end", class: `tag ${p.mark}-ink` }));
  }
  return figure;
}

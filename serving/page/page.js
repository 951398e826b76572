// The page: asks the service's own addresses, shows what it answers. No build step, nothing from elsewhere.

import { interval, odds, reason, scatter, short } from "./charts.js";

const $ = (id) => document.getElementById(id);
const state = { task: null, ranking: [], chosen: [], table: [], all: false, turn: 0, used: [] };
const FIRST = 25;

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

class Failed extends Error {}

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  const found = await answer.json();
  if (answer.status === 401) $("unlock").hidden = false;
  if (!answer.ok) throw new Failed(`${found.error.message}${found.error.remedy ? `; ${found.error.remedy}` : ""}`);
  return found;
}

function tell(error) {
  $("message").hidden = !error;
  $("message").textContent = error ? (error instanceof Failed ? error.message : `The service does not answer (${error.message}).`) : "";
}

async function start() {
  const { zoo, tasks } = await ask("v1/tasks");
  $("zoo").textContent = zoo;
  $("task").replaceChildren(...tasks.map((t) => new Option(`${t.name} (${t.checkpoints})`, t.name, false, false)));
  const wanted = decodeURIComponent(location.hash.slice(1));
  const first = tasks.find((t) => t.name === wanted) ?? tasks.find((t) => t.checkpoints > 1);
  const model = await ask("v1/model");
  state.used = model.features;
  state.callFrom = model.card.call_from;
  showCard(model);
  if (!first) { $("ranking-note").textContent = "Nothing is measured yet: foretune extract, or POST /v1/extract/submit."; return; }
  $("task").value = first.name;
  await open(first.name);
}

async function open(task) {
  const turn = ++state.turn;
  $("ranking").setAttribute("aria-busy", "true");
  try {
    const [first, table] = await Promise.all([ask("v1/rank", { task, limit: 1000 }), ask(`v1/table?task=${encodeURIComponent(task)}`)]);
    if (turn !== state.turn) return;
    Object.assign(state, { task, ranking: first.ranking, table: table.rows, all: false, chosen: [] });
    history.replaceState(null, "", `#${encodeURIComponent(task)}`);
    $("find").value = "";
    showRows();
    showFeatures();
    nothingChosen("Choose two checkpoints in the ranking.");
    if (state.ranking.length > 1) await choose(state.ranking[0].checkpoint, state.ranking[1].checkpoint);
  } finally {
    $("ranking").removeAttribute("aria-busy");
  }
}

const side = (name) => ["a", "b"][state.chosen.indexOf(name)] ?? "";

// Rows that are too close to call against the first of them; they stand together, best group first.
function groups() {
  const found = [];
  for (const [i, row] of state.ranking.entries()) {
    if (i === 0 || !row.tied_with.includes(state.ranking[i - 1].checkpoint)) found.push([]);
    found.at(-1).push(row);
  }
  return found;
}

function showRows() {
  const words = $("find").value.toLowerCase();
  const found = state.ranking.filter((r) => r.checkpoint.toLowerCase().includes(words));
  const shown = new Set(state.all || words ? found : found.slice(0, FIRST));
  const low = Math.min(...state.ranking.map((r) => r.interval[0])), high = Math.max(...state.ranking.map((r) => r.interval[1]));
  const bodies = groups().map((rows, place) => {
    const body = element("tbody", {}, ...rows.filter((r) => shown.has(r)).map((r) => line(r, low, high, place === 0)));
    if (!body.rows.length) return null;
    const first = rows[0].checkpoint, range = rows.length > 1 ? `${rows[0].rank} to ${rows.at(-1).rank}: too close to call against ${first}` : `${rows[0].rank}: not tied`;
    body.prepend(element("tr", { className: "group" }, element("th", { scope: "rowgroup", colSpan: 5, textContent: range })));
    return body;
  });
  for (const body of [...$("rows").tBodies]) body.remove();
  $("rows").append(...bodies.filter((body) => body));
  $("more").hidden = shown.size === found.length;
  $("more").textContent = `Show all ${found.length}`;
}

function line(row, low, high, top) {
  const mark = side(row.checkpoint);
  const button = element("button", { type: "button", className: "name", textContent: row.checkpoint });
  button.setAttribute("aria-pressed", String(mark !== ""));
  button.dataset.checkpoint = row.checkpoint;
  button.addEventListener("click", () => toggle(row.checkpoint).catch(tell));
  const number = (text) => element("td", { className: "n", textContent: text });
  return element("tr", { className: mark }, number(row.rank), element("td", {}, button), number(row.score.toFixed(2)),
    element("td", { className: "wide" }, interval(row, low, high, top)), number(row.p_best.toFixed(2)));
}

async function toggle(name) {
  const chosen = state.chosen.includes(name) ? state.chosen.filter((n) => n !== name) : [...state.chosen, name].slice(-2);
  await choose(...chosen);
}

async function choose(...names) {
  state.chosen = names;
  const focused = document.activeElement?.dataset?.checkpoint;
  showRows();
  if (focused) document.querySelector(`.name[data-checkpoint="${CSS.escape(focused)}"]`)?.focus();
  showScatter();
  if (names.length < 2) {
    nothingChosen(names.length ? `${names[0]}, and which other?` : "Choose two checkpoints in the ranking.");
    return;
  }
  const turn = ++state.turn;
  const answer = await ask("v1/compare", { task: state.task, a: names[0], b: names[1] });
  if (turn !== state.turn) return;
  tell(null);
  showAnswer(answer);
}

function nothingChosen(words) {
  $("answer").replaceChildren(element("p", { className: "note", textContent: words }));
  $("glance").hidden = true;
}

function showAnswer(answer) {
  const verdict = element("p", { className: "verdict" });
  const name = (text, mark) => element("b", { className: mark, textContent: text });
  const sure = Math.max(answer.probability, 1 - answer.probability);
  if (answer.too_close) verdict.append(element("span", { className: "close", textContent: "Too close to call" }), " between ", name(answer.a, "a"), " and ", name(answer.b, "b"), ".");
  else verdict.append(name(answer.winner, answer.winner === answer.a ? "a" : "b"), ` will be better, with probability ${sure.toFixed(2)}.`);
  const reasons = answer.reasons.slice(0, 10);
  const largest = Math.max(...reasons.map((r) => Math.abs(r.contribution)), 1e-12);
  const table = element("table", { className: "why" }, element("thead", {}, element("tr", {}, ...["Feature", answer.a, "speaks for", answer.b].map((h, i) =>
    element("th", { scope: "col", textContent: h, className: i === 1 ? "n a-ink" : i === 3 ? "b-ink" : "" })))));
  table.append(element("tbody", {}, ...reasons.map((r) => element("tr", {}, element("td", { textContent: r.feature }), element("td", { className: "n", textContent: short(r.a) }),
    element("td", { className: "wide" }, reason(r.contribution, largest)), element("td", { textContent: short(r.b) })))));
  const [p, low, high] = [answer.probability, ...answer.interval].map((v) => v.toFixed(2));
  const called = state.callFrom < 1 ? ` A pair is called from ${state.callFrom.toFixed(2)} on.` : "";
  const chance = element("p", { className: "note", textContent: `P(${answer.a} beats ${answer.b}) = ${p}, 90 % interval ${low} to ${high}.${called}` });
  $("glance").hidden = false;
  $("glance").textContent = `${answer.too_close ? "Too close to call" : `${answer.winner} wins`}: ${(answer.probability * 100).toFixed(0)} % ${answer.a}, ${(100 - answer.probability * 100).toFixed(0)} % ${answer.b}. Why?`;
  const parts = [verdict, odds(answer), chance];
  if (reasons.length) parts.push(table);
  if (answer.missing.length) parts.push(element("p", { className: "note", textContent: `Not measured: ${answer.missing.join(", ")}.` }));
  $("answer").replaceChildren(...parts);
}

function showFeatures() {
  const counts = new Map();
  for (const row of state.table) for (const [k, v] of Object.entries(row.features)) if (typeof v === "number") counts.set(k, (counts.get(k) ?? 0) + 1);
  const names = [...counts.keys()].filter((k) => counts.get(k) > 1);
  const before = $("feature").value;
  $("feature").replaceChildren(...names.map((n) => new Option(n, n)));
  const kept = names.includes(before) ? before : state.used.find((n) => names.includes(n)) ?? names[0];
  if (kept) $("feature").value = kept;
  showScatter();
}

function showScatter() {
  const feature = $("feature").value;
  const scores = new Map(state.ranking.map((r) => [r.checkpoint, r.score]));
  const known = state.table.filter((r) => r.outcome !== null).length > 1;
  const best = state.ranking[0];
  const points = state.table.map((r) => ({ name: r.checkpoint, x: r.features[feature], y: known ? r.outcome : scores.get(r.checkpoint), mark: side(r.checkpoint) || (best && (r.checkpoint === best.checkpoint || best.tied_with.includes(r.checkpoint)) ? "top" : "") }))
    .filter((p) => typeof p.x === "number" && typeof p.y === "number");
  $("scatter-title").textContent = known ? "A feature against the outcome" : "A feature against the predicted score";
  if (points.length < 2) { $("scatter").replaceChildren(); $("scatter-note").textContent = "No feature is measured for two checkpoints."; return; }
  $("scatter").replaceChildren(scatter(points, { x: feature, y: known ? "outcome" : "predicted score" }, (name) => toggle(name).catch(tell)));
  $("scatter-note").textContent = `${points.length} checkpoints; Spearman correlation ${spearman(points).toFixed(2)}.` + (known ? " Outcomes are known here: a ranker fitted on them has seen them." : "");
}

function spearman(points) {
  const ranks = (values) => { const order = values.map((v, i) => [v, i]).sort((p, q) => p[0] - q[0]); const out = []; for (let i = 0; i < order.length;) { let j = i; while (j < order.length && order[j][0] === order[i][0]) j++; for (let k = i; k < j; k++) out[order[k][1]] = (i + j - 1) / 2; i = j; } return out; };
  const x = ranks(points.map((p) => p.x)), y = ranks(points.map((p) => p.y)), m = (x.length - 1) / 2;
  let xy = 0, xx = 0, yy = 0;
  x.forEach((v, i) => { xy += (v - m) * (y[i] - m); xx += (v - m) ** 2; yy += (y[i] - m) ** 2; });
  return xx && yy ? xy / Math.sqrt(xx * yy) : 0;
}

function showCard(model) {
  const list = element("dl");
  const add = (term, value) => { if (value !== undefined && value !== null && value !== "") list.append(element("dt", { textContent: term }), element("dd", { textContent: value })); };
  const sources = { mlflow: "champion of MLflow", kept: "kept copy of the champion; MLflow was away at the start", folder: "baked in", default: "default, fitted on the reference table" };
  add("Ranker", `${model.ranker.name}, version ${model.ranker.version} (${sources[model.source] ?? model.source})`);
  for (const [term, value] of figures(model.card)) add(term, value);
  add("Features", model.features.join(", "));
  if (model.mlflow.reachable === false) add("MLflow", `away: ${model.mlflow.error}`);
  if (model.mlflow.refused) add("Refused", `version ${model.mlflow.refused.version}: ${model.mlflow.refused.reason}`);
  if (model.feedback.judged) add("Past answers", `${(model.feedback.accuracy * 100).toFixed(0)} % right of ${model.feedback.judged} whose outcomes are known`);
  const drifted = Object.entries(model.drift.features).filter(([, d]) => d.share > .1).sort((p, q) => q[1].share - p[1].share).slice(0, 3);
  if (drifted.length) add("Outside training range", drifted.map(([n, d]) => `${n} ${(d.share * 100).toFixed(0)} %`).join(", "));
  $("card").replaceChildren(list);
}

// Hold-out figures of the card: pairs of checkpoints that were in no fit.
function figures(card) {
  const held = card.holdout ?? {}, lines = [];
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  if (held.accuracy != null) lines.push(["On held-out checkpoints", `${percent(held.accuracy)} of ${held.pairs} pairs right; calibration error ${percent(held.ece)}`]);
  if (held.called_accuracy != null) lines.push(["Of the pairs it calls", `${percent(held.called_accuracy)} right; it calls ${percent(held.called)}, the rest is too close`]);
  if (card.rows) lines.push(["Fitted on", `${card.rows} outcomes of ${card.groups} checkpoints; tasks ${card.tasks.join(", ")}`]);
  return lines;
}

$("choose").addEventListener("submit", (event) => event.preventDefault());
$("task").addEventListener("change", () => open($("task").value).catch(tell));
$("feature").addEventListener("change", showScatter);
$("find").addEventListener("input", showRows);
$("more").addEventListener("click", () => { state.all = true; showRows(); });
$("glance").addEventListener("click", (event) => { event.preventDefault(); $("duel").focus(); $("duel").scrollIntoView(); });
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("unlock").hidden = true;
  tell(null);
  start().catch(tell);
});
start().then(() => { document.body.dataset.ready = "true"; }, tell);

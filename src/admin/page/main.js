// Puts the page together: asks the gateway what there is, keeps it fresh, and listens to the keyboard.

import { setUp as setUpAsking, placeOf } from "./ask.js";
import { BackendView } from "./backend.js";
import { $, ask, bar } from "./dom.js";
import { List } from "./list.js";
import { Colours, backendsOf, problemsOf, routesOf } from "./model.js";

/** Milliseconds between two looks. */
const EVERY = 1000;

const colours = new Map();
const coloursOf = backend => colours.get(backend.name) ?? colours.set(backend.name, new Colours()).get(backend.name);
const shares = backend => bar(backend.pods.slice(0, 64).map(pod => [pod.planned ?? 0, coloursOf(backend).of(pod.name)]));

let generation = null;
let byName = new Map();
const view = new BackendView();

const backends = new List($("backends-list"), {
  kind: "backends", label: "Backends", empty: "no route leads to a backend", count: $("backends-count"),
  columns: [
    ["Backend", "name", row => row.name],
    ["Table", "kind", row => row.table?.kind ?? "none"],
    ["Pods", "size", row => row.trouble ? "none" : row.pods.length],
    ["Shares", "spread", shares],
  ],
  pick: show,
});
const routes = new List($("routes-list"), {
  kind: "routes", label: "Routes", empty: "there is no route", count: $("routes-count"),
  columns: [
    ["Host", "host", row => row.host], ["Path", "path", row => row.path], ["Route", "name", row => row.name],
    ["Goes to", "target", row => row.target], ["Key", "key", row => row.key],
  ],
  pick: row => {
    $("url").value = row.url;
    const backend = byName.get(row.backend);
    if (backend) backends.select(backend, true);
  },
});
const problems = new List($("problems-list"), {
  kind: "problems", label: "What is not well", empty: "all is well", count: $("problems-count"),
  columns: [["Object", "object", row => row.object], ["What", "message", row => row.message]],
  pick: row => { $("problem").textContent = `${row.object}: ${row.message}`; },
});

function show(backend) {
  view.show(backend, coloursOf(backend));
  look();
}

/** The colours of a backend's pods go by their first order, so that neighbours differ. */
function learn(config) {
  const all = backendsOf(config);
  for (const backend of all) {
    backend.kind = backend.table?.kind ?? "none";
    backend.size = backend.pods.length;
    backend.spread = Math.max(0, ...backend.pods.map(pod => pod.planned ?? 0));
    if (backend.table) for (const pod of backend.pods) coloursOf(backend).of(pod.name);
  }
  byName = new Map(all.map(backend => [backend.name, backend]));
  backends.rows = all;
  routes.rows = routesOf(config).map((row, index) => ({ ...row, id: index }));
  problems.rows = problemsOf(config);
  const current = byName.get(view.name) ?? all.find(backend => backend.table) ?? all[0];
  if (current) {
    backends.select(current, false);
    view.show(current, coloursOf(current));
  }
  if (!$("url").value && routes.shown[0]) $("url").value = routes.shown[0].url;
}

function tell(text, isBad) {
  $("state").textContent = text;
  $("state").classList.toggle("bad", isBad);
}

let looking = false;

/** One look at the gateway. What changes seldom and is large is only read when it has changed. */
async function look() {
  if (looking) return;
  looking = true;
  try {
    const wanted = view.name;
    const live = await ask("live" + (wanted ? "?backend=" + encodeURIComponent(wanted) : ""));
    if (live.generation !== generation) {
      const config = await ask("config?shares");
      generation = config.generation;
      learn(config);
      const problem = config.controller === "answers" ? "" : ", the controller " + config.controller;
      tell(`version ${config.version}, snapshot ${generation}${problem}`, problem !== "");
    }
    view.live(live);
    if (view.name !== wanted) setTimeout(look);
  } catch (error) {
    generation = null;
    tell("the gateway does not answer: " + error.message, true);
  } finally {
    looking = false;
  }
}

setUpAsking(decision => {
  const backend = byName.get(decision.cluster ?? decision.backend);
  if (!backend) return;
  backends.select(backend, true);
  view.point(placeOf(decision));
});

let waiting = null;
$("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { for (const list of [backends, routes, problems]) list.search = $("search").value; }, 60);
});

const focus = id => { $(id).focus(); $(id).select?.(); };
const KEYS = {
  "/": () => focus("search"),
  "?": () => focus("url"),
  s: () => focus("scale-to"),
  j: () => backends.step(1),
  k: () => backends.step(-1),
};
document.addEventListener("keydown", event => {
  if (event.key === "Escape") return document.activeElement.blur();
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

look();
setInterval(() => { if (!document.hidden) look(); }, EVERY);

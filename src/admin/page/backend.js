// One backend in detail: its table drawn, its pods with planned and actual shares, what moved, hot keys, and what a change would do.

import { $, ask, bar, dot, node, percent, table } from "./dom.js";
import { movedPart, simulation } from "./model.js";

const style = name => getComputedStyle(document.documentElement).getPropertyValue(name);

export class BackendView {
  #backend = null;
  #colours = null;
  /** What /live said of it last, and the table before that one. */
  #live = null;
  #before = null;
  /** The part of the table that an answer pointed at: 0 to 1. */
  #mark = null;

  constructor() {
    $("scale").addEventListener("submit", event => { event.preventDefault(); this.#scale(); });
    new ResizeObserver(() => this.#draw()).observe($("table"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  get name() { return this.#backend?.name ?? null; }

  show(backend, colours) {
    const isOther = backend.name !== this.name;
    this.#backend = backend;
    this.#colours = colours;
    if (isOther) {
      this.#live = this.#before = this.#mark = null;
      $("scale-answer").textContent = "";
      $("scale-pods").replaceChildren();
      $("scale-to").value = backend.pods.length + 1;
    }
    $("backend-title").textContent = backend.name;
    $("backend-facts").textContent = [...backend.facts, `${backend.pods.length} pods`].join(" · ");
    $("scale").hidden = $("figure").hidden = !backend.table;
    this.#fill();
  }

  /** Takes in what /live says. */
  live(said) {
    const portrait = said.backend;
    if (!portrait || portrait.name !== this.name) return;
    const old = this.#live?.portrait;
    if (old && (movedPart(old, portrait) ?? 0) > 0) this.#before = old;
    this.#live = { portrait, recent: said.backends[portrait.name] };
    this.#fill();
  }

  /** Points at a place of the table. */
  point(part) {
    this.#mark = part;
    this.#draw();
  }

  #colour(address) {
    const pod = this.#backend.pods.find(one => one.address === address);
    return this.#colours.of(pod?.name ?? address);
  }

  #fill() {
    const { pods, table: kind, trouble } = this.#backend;
    const recent = this.#live?.recent;
    const seen = address => recent?.hosts[address];
    const most = pods.length > 400 ? pods.slice(0, 400) : pods;
    const rows = most.map(pod => [
      [dot(this.#colour(pod.address)), pod.name === pod.address ? [] : node("b", pod.name), " ", node("code", pod.address), pod.remarks.map(remark => node("span", remark, "chip"))],
      percent(pod.planned),
      recent?.requests ? percent((seen(pod.address)?.requests ?? 0) / recent.requests) : "",
      recent ? seen(pod.address)?.sessions ?? 0 : "",
    ]);
    $("pods").replaceChildren(trouble ? node("p", trouble, "bad") : table(["Pod", "#Planned", "#Actual", "#Sessions"], rows, "no pods"));
    if (recent?.requests) {
      const about = `Actual: of the last ${recent.requests} requests, with ${recent.sessions} sessions. `;
      $("pods").append(node("p", [about, node("span", recent.moved ? `${recent.moved} of them moved.` : "None of them moved.", recent.moved ? "moved" : "good")], "quiet"));
    }
    if (most !== pods) $("pods").append(node("p", `and ${pods.length - most.length} more`, "quiet"));
    this.#keys();
    this.#caption(kind);
    this.#draw();
  }

  #keys() {
    const portrait = this.#live?.portrait;
    const name = address => this.#backend.pods.find(one => one.address === address)?.name ?? address;
    const pod = address => [dot(this.#colour(address)), name(address).split("/").pop()];
    const seconds = milliseconds => milliseconds == null ? "" : (milliseconds / 1000).toFixed(0) + " s ago";
    const moved = (portrait?.moved ?? []).map(key => [node("code", key.hash), [pod(key.from), " → ", key.host ? pod(key.host) : "a pod that is gone"], seconds(key.ago)]);
    $("moved").replaceChildren(table(["Key's hash", "From, to", "When"], moved, "none of those that were seen lately"));
    // A key is hot if it has more than twice the requests of the average one.
    const { requests, sessions } = this.#live?.recent ?? {};
    const hot = (portrait?.hot ?? []).filter(key => key.requests * sessions > 2 * requests).slice(0, 8).map(key => [node("code", key.hash), key.host ? pod(key.host) : "gone", key.requests]);
    $("hot").replaceChildren(table(["Key's hash", "Pod", "#Requests"], hot, "no key has twice the requests of the average one"));
  }

  #caption(kind) {
    const moved = this.#before && movedPart(this.#before, this.#live.portrait);
    const what = kind ? `${kind.kind === "ring" ? "The ring" : "The Maglev table"}: ${kind.size} entries` : "No table: keys have no pod of their own";
    $("table-caption").replaceChildren(what, ...moved == null ? [] : [node("span", `; the last change moved ${percent(moved)}`, "moved")]);
    $("table").setAttribute("aria-label", `${what}. ${this.#backend.pods.map(pod => `${pod.name} ${percent(pod.planned)}`).join(", ")}`);
  }

  /** Outside the table as it is, inside it the one before the last change, and in the middle the shares. */
  #draw() {
    const canvas = $("table");
    const side = canvas.clientWidth, scale = devicePixelRatio || 1;
    if (!side || !this.#backend) return;
    canvas.width = canvas.height = side * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.translate(side / 2, side / 2);
    pen.rotate(-Math.PI / 2);
    const radius = side / 2 - 6;
    const now = this.#live?.portrait;
    const ring = (picture, outer, inner, colour) => picture.places.forEach((host, place) => {
      const turn = 2 * Math.PI / picture.places.length;
      this.#wedge(pen, outer, inner, place * turn, (place + 1.15) * turn, colour(picture.hosts[host], place));
    });
    if (now?.places.length) ring(now, radius, radius * .74, host => this.#colour(host));
    if (now?.places.length && this.#before) {
      const owner = place => now.hosts[now.places[place]];
      ring(this.#before, radius * .71, radius * .6, (host, place) => host === owner(place) ? style("--soft") : this.#colour(host));
    }
    this.#shares(pen, radius * (this.#before ? .56 : .7));
    if (this.#mark !== null) {
      pen.rotate(this.#mark * 2 * Math.PI);
      pen.strokeStyle = pen.fillStyle = style("--ink");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.moveTo(radius * .66, 0);
      pen.lineTo(radius + 4, 0);
      pen.stroke();
    }
  }

  #shares(pen, radius) {
    let from = 0;
    for (const pod of this.#backend.pods) {
      const to = from + (pod.planned ?? 0) * 2 * Math.PI;
      this.#wedge(pen, radius, radius * .55, from, to, this.#colour(pod.address));
      from = to;
    }
  }

  #wedge(pen, outer, inner, from, to, colour) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(0, 0, outer, from, to);
    pen.arc(0, 0, inner, to, from, true);
    pen.fill();
  }

  async #scale() {
    const name = this.name;
    $("scale-answer").textContent = "…";
    try {
      const report = await ask("simulate", simulation(name, Number($("scale-to").value)));
      if (name !== this.name) return;
      if (report.error) throw new Error(report.error);
      const bars = share => bar(report.hosts.map(host => [share(host) ?? 0, this.#colour(host.host)]));
      $("scale-answer").replaceChildren(node("b", percent(report.moved), "moved"), ` of the sessions would move, ${percent(report.moved_needlessly)} needlessly`);
      const rows = report.hosts.map(host => [
        [dot(this.#colour(host.host)), host.pod ?? host.host], percent(host.before), host.after == null ? "goes" : percent(host.after),
      ]);
      $("scale-pods").replaceChildren(bars(host => host.before), bars(host => host.after), table(["Pod", "#Before", "#After"], rows, ""));
    } catch (error) {
      $("scale-answer").replaceChildren(node("span", error.message, "bad"));
      $("scale-pods").replaceChildren();
    }
  }
}

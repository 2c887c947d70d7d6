// A list of which only the rows in sight are in the document: thousands cost no more than a screenful.

import { node } from "./dom.js";
import { matching, sorted } from "./model.js";

const HEIGHT = 30;
const BEYOND = 6;

export class List {
  #rows = [];
  #shown = [];
  #search = "";
  #key = null;
  #descending = false;
  #selected = null;

  /** `columns`: [title, key to sort by, row => content]; `pick`: called with the row that somebody chose. */
  constructor(place, { kind, columns, label, empty, pick, count }) {
    Object.assign(this, { kind, columns, empty, pick, count });
    this.head = node("div", columns.map(([title, key]) => this.#heading(title, key)), `row head of-${kind}`);
    this.body = node("div");
    this.view = node("div", this.body, "list");
    this.view.tabIndex = 0;
    this.view.setAttribute("role", "listbox");
    this.view.setAttribute("aria-label", label);
    this.view.addEventListener("scroll", () => this.#draw(), { passive: true });
    this.view.addEventListener("keydown", event => this.#pressed(event));
    new ResizeObserver(() => this.#draw()).observe(this.view);
    place.replaceChildren(this.head, this.view);
  }

  set rows(rows) { this.#rows = rows; this.#arrange(); }
  set search(search) { this.#search = search; this.view.scrollTop = 0; this.#arrange(); }
  get shown() { return this.#shown; }

  /** Chooses the row that is so many below the one that is chosen now. */
  step(by) {
    const at = this.#shown.findIndex(row => this.#isSelected(row));
    const next = this.#shown[Math.min(Math.max(at + by, 0), this.#shown.length - 1)];
    if (next) this.select(next, true);
  }

  select(row, tell) {
    this.#selected = row.id ?? row.name;
    const top = this.#shown.indexOf(row) * HEIGHT;
    if (top >= 0 && (top < this.view.scrollTop || top + HEIGHT > this.view.scrollTop + this.view.clientHeight)) this.view.scrollTop = top - HEIGHT * 2;
    this.#draw();
    if (tell) this.pick?.(row);
  }

  redraw() { this.#draw(); }

  #isSelected(row) { return this.#selected !== null && (row.id ?? row.name) === this.#selected; }

  #heading(title, key) {
    const button = node("button", title);
    button.type = "button";
    button.addEventListener("click", () => {
      this.#descending = this.#key === key && !this.#descending;
      this.#key = key;
      for (const other of this.head.children) other.removeAttribute("aria-sort");
      button.setAttribute("aria-sort", this.#descending ? "descending" : "ascending");
      this.#arrange();
    });
    return button;
  }

  #arrange() {
    this.#shown = sorted(matching(this.#rows, this.#search), this.#key, this.#descending);
    this.body.style.height = this.#shown.length * HEIGHT + "px";
    const all = this.#rows.length, some = this.#shown.length;
    this.count.textContent = all === some ? all : `${some} of ${all}`;
    this.#draw();
  }

  #draw() {
    const first = Math.max(0, Math.floor(this.view.scrollTop / HEIGHT) - BEYOND);
    const last = Math.min(this.#shown.length, Math.ceil((this.view.scrollTop + this.view.clientHeight) / HEIGHT) + BEYOND);
    const rows = this.#shown.slice(first, last).map((row, index) => this.#row(row, first + index));
    this.body.replaceChildren(...rows.length ? rows : [node("p", this.#rows.length ? "nothing of the kind" : this.empty, "quiet")]);
  }

  #row(row, index) {
    const cells = this.columns.map(([, , content]) => node("span", content(row)));
    const made = node("div", cells, `row of-${this.kind}` + (this.pick ? " pick" : ""));
    made.style.height = HEIGHT + "px";
    made.style.transform = `translateY(${index * HEIGHT}px)`;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", this.#isSelected(row));
    made.title = cells.map(cell => cell.textContent).filter(Boolean).join("\n");
    if (this.pick) made.addEventListener("click", () => this.select(row, true));
    return made;
  }

  #pressed(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (!step || !this.pick) return;
    event.preventDefault();
    this.step(step);
  }
}

/**
 * All clips, of which only those in sight are in the document: rows of a grid inside a scrolled box.
 * One clip can be reached with the tab key; arrows, page keys, Home and End move from there.
 */

import { card, skeleton } from "./cards.js";
import { el, settled } from "./dom.js";
import { wasAborted } from "./api.js";

const PAGE = 60; // clips asked for at once
const MOST_PAGES = 30; // kept; the ones looked at longest ago go first
const MOST_CLIPS = 60_000; // reachable by scrolling: a box has a largest height; beyond, one searches
const CARD_WIDTH = 90; // at least
const GAP = 12;
const TEXT_LINES = 2.6; // of the title under a picture, in heights of its letters
const SPARE_ROWS = 1;

export class Catalogue {
  /**
   * @param {HTMLElement} box the scrolled element
   * @param {(query: string, offset: number, limit: number, signal: AbortSignal) => Promise<{total: number, items: object[]}>} load
   * @param {{onWatch: Function, onTotal: (total: number, reachable: number) => void, onFail: (error: Error) => void}} on
   */
  constructor(box, load, on) {
    Object.assign(this, { box, load, on, query: "", total: 0, pages: new Map(), shown: new Map(), asked: new Map(), active: 0 });
    this.window = el("ul", { class: "shelf-window" });
    this.height = el("div", { class: "shelf-height" }, this.window);
    box.append(this.height);
    this.ask = settled(() => this.#ask(), 60); // not for every row that flies past
    let frame = 0;
    box.addEventListener("scroll", () => (frame ||= requestAnimationFrame(() => ((frame = 0), this.draw()))), { passive: true });
    box.addEventListener("keydown", (event) => this.#move(event));
    box.addEventListener("focusin", (event) => this.#focused(event));
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /** Start over with what matches `query`. */
  async show(query) {
    this.first?.abort();
    for (const asked of this.asked.values()) asked.abort();
    this.asked.clear();
    this.first = new AbortController();
    const { signal } = this.first;
    const first = await this.#page(query, 0, signal);
    if (!first || signal.aborted) return;
    Object.assign(this, { query, active: 0 });
    this.pages = new Map([[0, first.items]]);
    this.total = first.total;
    this.shown.forEach((cell) => cell.remove());
    this.shown.clear();
    this.box.scrollTop = 0;
    this.on.onTotal(this.total, MOST_CLIPS);
    this.draw();
  }

  get #count() {
    return Math.min(this.total, MOST_CLIPS);
  }

  /** Put the rows in sight into the document and take the others out. */
  draw() {
    const width = this.box.clientWidth;
    if (!width) return;
    this.columns = Math.max(2, Math.floor((width + GAP) / (CARD_WIDTH + GAP)));
    const side = (width - GAP * (this.columns - 1)) / this.columns;
    const letters = parseFloat(getComputedStyle(this.window).fontSize);
    this.rowHeight = Math.round((side * 4) / 3 + TEXT_LINES * letters + 6 + GAP);
    const rows = Math.ceil(this.#count / this.columns);
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.rowHeight) - SPARE_ROWS);
    const last = Math.min(rows, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.rowHeight) + SPARE_ROWS);
    this.height.style.height = `${Math.max(0, rows * this.rowHeight - GAP)}px`;
    this.window.style.transform = `translateY(${first * this.rowHeight}px)`;
    this.window.style.gridTemplateColumns = `repeat(${this.columns}, minmax(0, 1fr))`;
    this.window.style.gridAutoRows = `${this.rowHeight - GAP}px`;
    const [from, to] = [first * this.columns, Math.min(last * this.columns, this.#count)];
    this.range = [from, to];
    if (!this.box.contains(document.activeElement)) this.active = Math.min(Math.max(this.active, from), to - 1); // the tab key must find one
    for (const [at, cell] of this.shown) if (at < from || at >= to) (cell.remove(), this.shown.delete(at));
    let before = null;
    for (let at = to - 1; at >= from; at--) before = this.#cell(at, before);
    this.ask();
  }

  /** The element of one clip, in its place before `next`; a skeleton until the clip is known. */
  #cell(at, next) {
    const clip = this.pages.get(Math.floor(at / PAGE))?.[at % PAGE];
    let cell = this.shown.get(at);
    if (!cell || (clip && !cell.clip)) {
      const made = el("li", { "aria-setsize": this.total, "aria-posinset": at + 1 }, clip ? card(clip, { onWatch: this.on.onWatch }) : skeleton());
      made.clip = clip;
      made.at = at;
      cell?.replaceWith(made);
      cell = made;
      this.shown.set(at, cell);
    }
    for (const button of cell.querySelectorAll("button")) button.tabIndex = at === this.active ? 0 : -1;
    if (cell.nextSibling !== next || !cell.isConnected) this.window.insertBefore(cell, next);
    return cell;
  }

  /** Ask for pages in sight that are not here; forget requests for pages out of sight. */
  #ask() {
    const [from, to] = this.range;
    const wanted = new Set();
    for (let page = Math.floor(from / PAGE); page * PAGE < to; page++) {
      const items = this.pages.get(page);
      if (!items) wanted.add(page);
      else this.pages.delete(page), this.pages.set(page, items); // now the one looked at last
    }
    for (const [page, asked] of this.asked) if (!wanted.has(page)) (asked.abort(), this.asked.delete(page));
    for (const page of wanted) if (!this.asked.has(page)) this.#fetch(page);
  }

  async #fetch(page) {
    const asked = new AbortController();
    this.asked.set(page, asked);
    const answer = await this.#page(this.query, page, asked.signal);
    if (this.asked.get(page) === asked) this.asked.delete(page);
    if (!answer || asked.signal.aborted) return;
    this.pages.set(page, answer.items);
    for (const old of this.pages.keys()) {
      if (this.pages.size <= MOST_PAGES) break;
      if (old !== page) this.pages.delete(old);
    }
    this.draw();
  }

  /** One page of clips, or null if it is no longer wanted or was refused. */
  async #page(query, page, signal) {
    try {
      return await this.load(query, page * PAGE, PAGE, signal);
    } catch (error) {
      if (!wasAborted(error)) this.on.onFail(error);
      return null;
    }
  }

  #focused(event) {
    const at = event.target.closest("li")?.at;
    if (at === undefined || at === this.active) return;
    this.active = at;
    this.draw();
  }

  #move(event) {
    const perScreen = this.columns * Math.max(1, Math.floor(this.box.clientHeight / this.rowHeight));
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: perScreen, PageUp: -perScreen };
    const ends = { Home: 0, End: this.#count - 1 };
    if (!(event.key in step) && !(event.key in ends)) return;
    event.preventDefault();
    const to = event.key in ends ? ends[event.key] : this.active + step[event.key];
    if (to < 0 || to >= this.#count) return;
    this.active = to;
    const top = Math.floor(to / this.columns) * this.rowHeight;
    const bottom = top + this.rowHeight;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (bottom > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = bottom - this.box.clientHeight;
    this.draw();
    this.shown.get(to)?.querySelector("button")?.focus({ preventScroll: true });
  }
}

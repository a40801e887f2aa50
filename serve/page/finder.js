/** The field that finds a viewer: a combobox whose list comes from the service as one types. */

import { count, el, settled } from "./dom.js";
import { wasAborted } from "./api.js";

const MOST = 8;

export class Finder {
  /**
   * @param {HTMLInputElement} input
   * @param {HTMLElement} list
   * @param {(query: string, limit: number, signal: AbortSignal) => Promise<{user: string, events: number}[]>} load
   * @param {(user: string) => void} onChoose
   */
  constructor(input, list, load, onChoose) {
    Object.assign(this, { input, list, load, onChoose, at: -1, users: [], asked: null });
    const look = settled(() => this.#look(), 120);
    input.addEventListener("input", look);
    input.addEventListener("focus", () => this.#look());
    input.addEventListener("click", () => list.hidden && this.#look());
    input.addEventListener("blur", () => this.close());
    input.addEventListener("keydown", (event) => this.#key(event));
  }

  close() {
    this.asked?.abort();
    this.list.hidden = true;
    this.at = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  async #look() {
    this.asked?.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    const query = this.input.value.trim();
    try {
      const users = await this.load(query, MOST, signal);
      if (!signal.aborted) this.#show(query, users);
    } catch (error) {
      if (!wasAborted(error)) this.close(); // what is wrong is said by the page: this list only helps
    }
  }

  #show(query, users) {
    const known = users.some(({ user }) => user === query);
    this.users = [...users.map(({ user }) => user), ...(query && !known ? [query] : [])];
    const notes = [...users.map(({ events }) => count(events, "clip")), "new viewer"];
    const options = this.users.map((user, at) =>
      el(
        "li",
        { id: `viewer-${at}`, role: "option", "aria-selected": "false", on: { pointerdown: (event) => this.#press(event, at) } },
        el("span", { class: "title", dir: "auto", textContent: user }),
        el("span", { class: "meta", textContent: notes[at] }),
      ),
    );
    if (!options.length) options.push(el("li", { class: "nothing", role: "option", "aria-disabled": "true", "aria-selected": "false", textContent: "No viewers yet. Type a name to begin as a new one." }));
    this.list.replaceChildren(...options);
    this.list.hidden = false;
    this.at = -1;
    this.input.setAttribute("aria-expanded", "true");
    this.input.removeAttribute("aria-activedescendant");
  }

  #press(event, at) {
    event.preventDefault(); // the field keeps the focus until the choice is made
    this.#choose(this.users[at]);
  }

  #key(event) {
    const open = !this.list.hidden;
    if (event.key === "Escape" && open) (event.preventDefault(), this.close());
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) this.#look();
      else this.#mark(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      const user = this.at >= 0 ? this.users[this.at] : this.input.value.trim();
      if (user) this.#choose(user);
    }
  }

  #mark(step) {
    if (!this.users.length) return;
    this.at = this.at < 0 && step < 0 ? this.users.length - 1 : (this.at + step + this.users.length) % this.users.length;
    [...this.list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === this.at)));
    this.list.children[this.at].scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", `viewer-${this.at}`);
  }

  #choose(user) {
    this.close();
    this.input.value = "";
    this.onChoose(user);
  }
}

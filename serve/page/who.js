/**
 * Who is watching: a viewer of the service, or a history made on this page. Both are asked alike.
 * A clip is {item, title, row, thumbnail, media}; a watched one also has {time, event_id}.
 */

const HISTORY_LIMIT = 200;
const MOST_SENT = 1000; // of one history, which is what the service takes
const OWN = "vivim-own-history";

/** 128 random bits. `crypto.randomUUID` is not there for a page that comes from another machine without TLS. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** A viewer whom the service knows, or who begins now: what is watched is an event that the service keeps. */
export class Viewer {
  constructor(api, user) {
    Object.assign(this, { api, user, known: true, watched: [] });
    this.path = `v1/users/${encodeURIComponent(user)}`;
  }

  get name() {
    return this.user;
  }

  async load(signal) {
    const answer = await this.api.get(`${this.path}/history`, { limit: HISTORY_LIMIT }, signal);
    this.known = answer.known;
    this.watched = answer.history;
  }

  recommend(options, signal) {
    return this.api.get(`${this.path}/recommendations`, options, signal);
  }

  /** Watch a clip. The event id is made once, so that a request that is sent again is not a second event. */
  async watch(clip, options) {
    const event = { item: clip.item, event_id: newId() };
    const answer = await this.api.post(`${this.path}/events`, event, options);
    if (answer.late) await this.load();
    else this.watched = [...this.watched, { ...clip, time: answer.time, event_id: answer.event_id }];
    return answer.recommendations ?? this.recommend(options);
  }

  /** The event that undo takes back: the last one that did not come with the training data. */
  get undoable() {
    return this.watched.findLast((clip) => clip.event_id) ?? null;
  }

  async undo(options) {
    await this.api.delete(`${this.path}/events/${encodeURIComponent(this.undoable.event_id)}`);
    await this.load();
    return this.recommend(options);
  }

  popular(k, signal) {
    return this.api.get("v1/popular", { k, user: this.user }, signal);
  }
}

/** A history that lives in this tab only; the service is handed the whole of it each time and keeps nothing. */
export class OwnHistory {
  /** @param {object[]} [watched] the clips to begin with; without, those of this tab. */
  constructor(api, watched) {
    Object.assign(this, { api, known: true });
    this.#keep(watched ?? JSON.parse(sessionStorage.getItem(OWN) ?? "[]"));
  }

  get name() {
    return null;
  }

  async load() {}

  recommend(options, signal) {
    if (!this.watched.length) return this.popular(options.k, signal);
    return this.api.post("v1/recommend", { history: this.watched.slice(-MOST_SENT).map((clip) => clip.item), ...options }, undefined, signal);
  }

  async watch(clip, options) {
    this.#keep([...this.watched, { ...clip, time: new Date().toISOString(), event_id: null }]);
    return this.recommend(options);
  }

  get undoable() {
    return this.watched.at(-1) ?? null;
  }

  async undo(options) {
    this.#keep(this.watched.slice(0, -1));
    return this.recommend(options);
  }

  popular(k, signal) {
    return this.api.get("v1/popular", { k }, signal);
  }

  #keep(watched) {
    this.watched = watched;
    sessionStorage.setItem(OWN, JSON.stringify(watched));
  }
}

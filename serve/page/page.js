/** The page of `vivim serve`: who watches, what was watched, what comes next. */

import { Api, Refused, wasAborted } from "./api.js";
import { card, nameOf, picture, row, skeleton, title, watchedCard } from "./cards.js";
import { Catalogue } from "./catalogue.js";
import { $, count, el, milliseconds, motionIsReduced, place, settled } from "./dom.js";
import { Finder } from "./finder.js";
import { askToken, notices } from "./notices.js";
import { OwnHistory, Viewer } from "./who.js";

const CHIPS = 5; // viewers offered without searching
const MOST_SKELETONS = 12;
const STILL_MS = 350; // after the list changed under the pointer, a second press is the end of a double click
const KINDS = { ids: "ids", frozen: "video", "ids+frozen": "ids + video" };

const api = new Api(askToken);
let who = null; // Viewer, OwnHistory, or null: nobody is chosen
let runs = [];
let asked = null; // AbortController of the list that is being asked for
let queue = Promise.resolve(); // what changes a history, one after another
let changed = -Infinity; // when the list last changed
const told = new Set(); // pairs of model and index that answers have named
const sending = new Set(); // items whose click is on its way

// ---- what is asked for ----

function options() {
  const form = $("settings");
  return {
    k: Number(form.k.value),
    search: form.search.value,
    run: form.run?.value || null,
    exclude_seen: !form.seen.checked,
  };
}

/** Ask for the list anew; an earlier question that is still on its way is dropped. */
async function recommend() {
  asked?.abort();
  if (!who) return;
  const mine = (asked = new AbortController());
  const [me, started] = [who, performance.now()];
  $("cards").setAttribute("aria-busy", "true");
  if (!$("cards").querySelector(".watch")) showSkeletons();
  try {
    const answer = await me.recommend(options(), mine.signal);
    if (me === who && !mine.signal.aborted) show(answer, performance.now() - started);
  } catch (error) {
    fail(error);
  } finally {
    if (asked === mine) $("cards").removeAttribute("aria-busy");
  }
  popular();
}

/** Choose who watches. `null` goes back to nobody. */
async function choose(next) {
  who = next;
  asked?.abort();
  trouble(null);
  $("cards").replaceChildren();
  $("latency").textContent = "";
  $("fallback").hidden = true;
  remember();
  showWho();
  showStrip();
  if (!who) return;
  const me = who;
  showSkeletons();
  try {
    await me.load();
    if (me !== who) return;
    showWho();
    showStrip();
    await recommend();
  } catch (error) {
    fail(error);
  }
}

/** A click on a clip: one event, and the list that follows from it. */
function watch(clip, event) {
  const double = event.detail > 1 || (event.detail === 1 && performance.now() - changed < STILL_MS);
  if (double || sending.has(clip.item)) return;
  if (!who) {
    who = new OwnHistory(api, []);
    showWho();
    remember();
  }
  const me = who;
  sending.add(clip.item);
  mark(clip.item, true);
  change(me, `Watched ${nameOf(clip)}.`, () => me.watch(clip, options())).finally(() => {
    sending.delete(clip.item);
    mark(clip.item, false);
  });
}

function undo() {
  const me = who;
  const clip = me?.undoable;
  if (clip && !$("undo").disabled) change(me, `Took back ${nameOf(clip)}.`, () => me.undo(options()));
}

/** Do what changes a history, after what was asked before it, and show what comes of it. */
function change(me, said, action) {
  $("undo").disabled = true;
  queue = queue.then(async () => {
    asked?.abort();
    const started = performance.now();
    try {
      const answer = await action();
      if (me !== who) return;
      show(answer, performance.now() - started, said);
      popular();
    } catch (error) {
      fail(error);
    } finally {
      $("undo").disabled = false;
      if (me === who) (showWho(), showStrip());
    }
  });
  return queue;
}

// ---- what is shown ----

function show(answer, tookMs, said = "") {
  trouble(null);
  const seen = new Set(who.watched.map((clip) => clip.item));
  const listed = itemsOf($("cards"));
  const cards = answer.items.map((clip, at) => {
    const made = card(clip, { meta: meta(at, clip), badge: seen.has(clip.item) ? "Seen" : "", because: because(clip), onWatch: watch });
    return el("li", { class: listed.has(clip.item) ? undefined : "new" }, made);
  });
  place($("cards"), cards);
  $("cards").removeAttribute("aria-busy");
  changed = performance.now();
  $("next-empty").hidden = cards.length > 0;
  if (!cards.length) $("next-empty").replaceChildren(el("p", { textContent: "Nothing is left to recommend: every clip was seen. Tick “Seen clips too” to list them again." }));
  showLatency(answer, tookMs);
  showFallback(answer);
  $("said").textContent = `${said} ${count(cards.length, "recommendation")}.`;
  if (isNews(answer)) start();
}

/** Whether the model or the catalogue was changed behind this page. Said once of each pair, whatever `v1/runs` says then. */
function isNews(answer) {
  const run = runs.find((one) => one.name === answer.run);
  const pair = `${answer.model} ${answer.index}`;
  const news = run && pair !== `${run.model} ${run.index}` && !told.has(pair);
  told.add(pair);
  return news;
}

const itemsOf = (list) => new Set([...list.querySelectorAll(".card")].map((one) => one.clip?.item));

const meta = (at, clip) => (Number.isFinite(clip.score) ? `${at + 1} · ${clip.score.toFixed(2)}` : `${at + 1}`);

function showLatency(answer, tookMs) {
  const { state, search } = answer.took_ms ?? {};
  const parts = [el("strong", { textContent: milliseconds(tookMs) }), " there and back"];
  if (Number.isFinite(search)) parts.push(el("span", { class: "parts", textContent: `state ${milliseconds(state ?? 0)}, search ${milliseconds(search)}` }));
  $("latency").replaceChildren(...parts);
}

function showFallback(answer) {
  const hint = !who.watched.length
    ? "Nothing was watched yet, so these are the clips that most people watched. Click one to begin."
    : answer.fallback && `The model cannot place this viewer: these are popular clips${answer.fallback === "popularity" ? "" : ", mixed with what is near to what was just watched"}.`;
  $("fallback").textContent = hint || "";
  $("fallback").hidden = !hint;
}

/** The watched clips a recommendation is nearest to; resting on it marks them in the strip. */
function because(clip) {
  const near = clip.because ?? [];
  if (!near.length) return null;
  const watched = new Map(who.watched.map((one) => [one.item, one]));
  const first = watched.get(near[0].item) ?? near[0];
  const small = picture({ ...first, media: null });
  const text = near.map((one) => `${nameOf(one)} (${one.similarity.toFixed(2)})`).join(", ");
  const line = el("p", { class: "because", title: `Nearest of what was watched: ${text}` }, small, el("span", { class: "because-text" }, el("span", { class: "meta", textContent: "Because of " }), title(first)));
  line.items = new Set(near.map((one) => one.item));
  return line;
}

function light(event) {
  const items = event.target.closest?.(".card")?.querySelector(".because")?.items;
  const on = event.type === "pointerover" || event.type === "focusin";
  for (const watched of $("strip").querySelectorAll(".card")) watched.classList.toggle("lit", on && Boolean(items?.has(watched.clip.item)));
}

function showStrip() {
  const watched = who?.watched ?? [];
  const before = $("strip").childElementCount;
  $("strip").replaceChildren(...watched.map((clip, at) => el("li", {}, watchedCard(clip, at + 1, watched.length))));
  $("strip").hidden = !watched.length;
  $("strip").scrollTo({ left: $("strip").scrollWidth, behavior: before && !motionIsReduced() ? "smooth" : "instant" });
  $("watched-count").textContent = watched.length ? count(watched.length, "clip") + ", the latest last" : "";
  $("watched-empty").hidden = watched.length > 0;
  $("watched-empty").replaceChildren(...emptyStrip());
  $("undo").hidden = !who?.undoable;
  $("undo").title = who?.undoable ? `Take back ${nameOf(who.undoable)}` : "";
}

function emptyStrip() {
  if (!who) return [el("p", { class: "big", textContent: "Choose a viewer, or click a clip." }), el("p", { textContent: "What was watched stands here in order of time, and what to watch next follows below." })];
  if (!who.known) return [el("p", { class: "big" }, "Nobody called ", el("bdi", { textContent: who.name }), " has watched anything yet."), el("p", { textContent: "Click a clip: from then on they are known." })];
  return [el("p", { class: "big", textContent: "Nothing watched yet." }), el("p", { textContent: "Click any clip on this page. It moves here, and the list below follows." })];
}

function showWho() {
  const own = who instanceof OwnHistory;
  document.title = who?.name ? `${who.name} · vivim` : "vivim";
  $("own").setAttribute("aria-pressed", String(own));
  $("who-note").textContent = own ? "This history lives in this tab; the service keeps nothing of it." : "";
  for (const chip of $("chips").children) chip.setAttribute("aria-pressed", String(chip.user === who?.name));
  $("viewer").placeholder = who?.name ?? "Find a viewer, or name a new one";
  if (!who) showNobody();
}

function showNobody() {
  $("next-empty").hidden = false;
  $("next-empty").replaceChildren(el("p", { textContent: "Recommendations appear as soon as somebody is watching." }));
}

function showSkeletons() {
  $("next-empty").hidden = true;
  $("cards").replaceChildren(...Array.from({ length: Math.min(options().k, MOST_SKELETONS) }, () => el("li", {}, skeleton())));
}

function mark(item, on) {
  for (const one of document.querySelectorAll(".card, .row")) if (one.clip?.item === item) one.classList.toggle("sending", on);
}

/** Say what went wrong, where the list is; `null` takes it away. */
function trouble(error) {
  const refusedToken = error?.status === 401;
  $("trouble").hidden = !error;
  $("trouble").replaceChildren();
  if (!error) return;
  const text = refusedToken ? "This service answers only with its token." : error.message;
  $("trouble").append(el("p", { textContent: text }), el("button", { class: "quiet-button", type: "button", textContent: refusedToken ? "Enter the token" : "Try again", on: { click: start } }));
}

function fail(error) {
  if (wasAborted(error)) return;
  if (!(error instanceof Refused)) throw error;
  $("cards").querySelectorAll(".skeleton").forEach((one) => one.parentElement.remove());
  trouble(error);
}

// ---- popularity beside ----

async function popular() {
  $("popular").hidden = !$("settings").popular.checked || !who;
  if ($("popular").hidden) return;
  const me = who;
  try {
    const { k } = options();
    const answer = await me.popular(k);
    if (me !== who) return;
    const listed = itemsOf($("cards"));
    place($("popular-cards"), answer.items.map((clip, at) => el("li", {}, row(clip, at + 1, listed.has(clip.item) ? "also recommended" : "", watch))));
  } catch (error) {
    fail(error);
  }
}

// ---- beginning ----

function showRuns() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("run");
  const chosen = runs.find((run) => run.name === wanted) ?? runs.find((run) => run.default) ?? runs[0];
  const kinds = runs.map((run) => KINDS[run.items_kind] ?? run.items_kind);
  const labels = runs.map((run, at) => (kinds.filter((kind) => kind === kinds[at]).length > 1 ? run.name : kinds[at]));
  const inputs = runs.map((run, at) =>
    el("label", { title: `${run.name}: ${run.kind}, ${count(run.items, "clip")}` }, el("input", { type: "radio", name: "run", value: run.name, checked: run === chosen }), el("span", { textContent: labels[at] })),
  );
  $("runs").replaceChildren($("runs").firstElementChild, ...inputs);
  $("runs").hidden = runs.length < 2;
  $("serving").textContent = chosen ? `${chosen.kind} · ${count(chosen.items, "clip")}` : "";
  $("serving").title = runs.map((run) => `${run.name}: model ${run.model}, index ${run.index}`).join("\n");
}

async function showChips() {
  const { users } = await api.get("v1/users", { limit: CHIPS });
  const chips = users.map(({ user, events }) => {
    const chip = el("button", { class: "chip", type: "button", title: count(events, "clip"), on: { click: () => choose(new Viewer(api, user)) } }, el("bdi", { textContent: user }));
    chip.user = user;
    return chip;
  });
  $("chips").replaceChildren(...chips);
}

/** Who watches and through which run stand in the address, so that a page can be kept and sent. */
function remember() {
  const run = $("settings").run?.value;
  const parts = { ...(who?.name ? { user: who.name } : who && { own: "1" }), ...(run && runs.length > 1 ? { run } : {}) };
  const hash = new URLSearchParams(parts).toString();
  if (hash !== location.hash.slice(1)) history.pushState(null, "", hash ? `#${hash}` : location.pathname);
}

function fromAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (parts.has("user")) return new Viewer(api, parts.get("user"));
  return parts.has("own") ? new OwnHistory(api) : null;
}

const catalogue = new Catalogue($("catalogue"), (query, offset, limit, signal) => api.get("v1/items", { query, offset, limit }, signal), {
  onWatch: watch,
  onFail: fail,
  onTotal: (total, reachable) => {
    $("catalogue-count").textContent = total > reachable ? `${total.toLocaleString("en")}; search to reach them all` : count(total, "clip").replace(/ .*/, "");
    $("catalogue").hidden = !total;
    $("catalogue-empty").hidden = total > 0;
    $("catalogue-empty").replaceChildren(el("p", {}, "No clip matches ", el("bdi", { textContent: $("clip-query").value }), "."));
  },
});

async function start() {
  trouble(null);
  try {
    ({ runs } = await api.get("v1/runs"));
    showRuns();
    await Promise.all([showChips(), catalogue.show($("clip-query").value.trim())]);
    if (!who || who.name !== fromAddress()?.name) await choose(fromAddress());
    else await recommend();
  } catch (error) {
    fail(error);
  }
}

notices(api);
new Finder($("viewer"), $("viewers"), async (query, limit, signal) => (await api.get("v1/users", { query, limit }, signal)).users, (user) => choose(new Viewer(api, user)));
$("own").addEventListener("click", () => choose(who instanceof OwnHistory ? null : new OwnHistory(api)));
$("undo").addEventListener("click", undo);
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("settings").addEventListener("change", (event) => {
  if (event.target.name === "popular") popular();
  else (remember(), recommend());
});
$("clip-query").addEventListener("input", settled(() => catalogue.show($("clip-query").value.trim()), 150));
for (const type of ["pointerover", "pointerleave", "focusin", "focusout"]) $("cards").addEventListener(type, light);
addEventListener("popstate", () => start());
start();

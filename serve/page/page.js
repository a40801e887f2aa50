/** The page of `vivim serve`: who watches, what was watched, what comes next. This file ties the others together. */

import { Api, Refused, wasAborted } from "./api.js";
import { nameOf } from "./cards.js";
import { Catalogue } from "./catalogue.js";
import { $, count, el, settled } from "./dom.js";
import { Finder } from "./finder.js";
import { clearNext, hasCards, ringTheReasons, showNext, showPopular, showSkeletons } from "./next.js";
import { askToken, notices } from "./notices.js";
import { showWatched } from "./watched.js";
import { OwnHistory, Viewer } from "./who.js";

const CHIPS = 5; // viewers offered without searching
const STILL_MS = 350; // after the list changed under the pointer, a second press is the end of a double click
const KINDS = { ids: "ids", frozen: "video", "ids+frozen": "ids + video" };

const api = new Api(askToken);
let who = new OwnHistory(api);
let runs = [];
let asked = null; // AbortController of the list that is being asked for
let queue = Promise.resolve(); // what changes a history, one after another
let waiting = 0; // how many such changes are on their way
let changed = -Infinity; // when the list last changed
const told = new Set(); // pairs of model and index that answers have named
const sending = new Set(); // items whose click is on its way
let listing = false; // a list was asked for and is not there

// ---- what is asked for ----

function options() {
  const form = $("settings");
  return { k: Number(form.k.value), search: form.search.value, run: form.run?.value || null, exclude_seen: !form.seen.checked };
}

/** Ask for the list anew; an earlier question that is still on its way is dropped. */
async function recommend() {
  asked?.abort();
  offerSearches();
  const mine = (asked = new AbortController());
  const [me, started] = [who, performance.now()];
  if (!hasCards()) showSkeletons(options().k);
  listing = true;
  tellBusy();
  await guarded(async () => {
    const answer = await me.recommend(options(), mine.signal);
    if (me === who && !mine.signal.aborted) show(answer, performance.now() - started);
  });
  if (asked !== mine) return;
  listing = false;
  tellBusy();
  await popular();
}

/** Choose who watches. */
async function choose(next, keepsAddress = false) {
  asked?.abort();
  who = next;
  trouble(null);
  if (!keepsAddress) remember();
  showWho();
  showPopular(null);
  showWatched(null);
  clearNext();
  showSkeletons(options().k);
  await guarded(async () => {
    await next.load();
    if (next !== who) return;
    showWatched(who);
    await recommend();
  });
}

/** A click on a clip: one event, and the list that follows from it. */
function watch(clip, event) {
  const moved = event.currentTarget.closest("#next") && performance.now() - changed < STILL_MS; // all clips stay where they are
  const double = event.detail > 1 || (event.detail === 1 && moved);
  if (double || sending.has(clip.item)) return;
  const me = who;
  sending.add(clip.item);
  mark();
  change(me, `Watched ${nameOf(clip)}.`, () => me.watch(clip, options())).finally(() => {
    sending.delete(clip.item);
    mark();
  });
}

function undo() {
  const me = who;
  if (me.undoable && !waiting) change(me, `Took back ${nameOf(me.undoable)}.`, () => me.undo(options()));
}

/** Do what changes a history, after what was begun before it, and show what comes of it. */
function change(me, said, action) {
  waiting += 1;
  tellBusy();
  $("undo").disabled = true;
  const step = async () => {
    if (me === who) asked?.abort(); // a list of the history as it was
    const started = performance.now();
    try {
      await guarded(async () => {
        const answer = await action();
        if (me === who) show(answer, performance.now() - started, said);
      });
    } finally {
      waiting -= 1;
      tellBusy();
      $("undo").disabled = waiting > 0;
    }
    if (me !== who) return;
    showWatched(who);
    popular();
  };
  queue = queue.then(step).catch(reportError); // what comes after a fault of ours does not wait for it for ever
  return queue;
}

async function popular() {
  const me = who;
  if (!$("settings").popular.checked) return showPopular(null);
  await guarded(async () => {
    const answer = await me.popular(options().k);
    if (me === who && $("settings").popular.checked) showPopular(answer, watch);
  });
}

// ---- what is shown ----

/** The list is about to be another: it was asked for, or a change to the history is on its way. */
function tellBusy() {
  if (listing || waiting) $("cards").setAttribute("aria-busy", "true");
  else $("cards").removeAttribute("aria-busy");
}

function show(answer, tookMs, said = "") {
  trouble(null);
  showNext(answer, who, tookMs, watch);
  $("said").textContent = `${said} ${count(answer.items.length, "recommendation")}.`;
  changed = performance.now();
  if (isNews(answer)) guarded(() => lookAround());
}

/** Whether the model or the catalogue was changed behind this page; each pair is news once, whatever `v1/runs` says then. */
function isNews(answer) {
  const run = runs.find((one) => one.name === answer.run);
  const pair = `${answer.run} ${answer.model} ${answer.index}`;
  const news = run && pair !== `${run.name} ${run.model} ${run.index}` && !told.has(pair);
  told.add(pair);
  return news;
}

function showWho() {
  const own = who.name === null;
  document.title = own ? "vivim" : `${who.name} · vivim`;
  $("who-name").replaceChildren(own ? "You" : el("bdi", { textContent: who.name }));
  $("who-note").textContent = own ? "Your history stays in this tab; the service keeps nothing of it." : "What you click is recorded as watched by this viewer.";
  for (const chip of $("chips").children) chip.setAttribute("aria-pressed", String(chip.user === who.name));
}

/** Show on every card of a clip whether its click is on its way. */
function mark() {
  for (const one of document.querySelectorAll(".card, .row")) one.classList.toggle("sending", sending.has(one.clip?.item));
}

/** Run `action`; what the service refuses is said where the list is. */
async function guarded(action) {
  try {
    await action();
  } catch (error) {
    fail(error);
  }
}

function fail(error) {
  if (wasAborted(error)) return;
  if (!(error instanceof Refused)) throw error;
  if (!hasCards()) clearNext();
  trouble(error);
}

/** Say what was refused, and offer to try again; null takes it away. */
function trouble(error) {
  $("trouble").hidden = !error;
  if (!error) return $("trouble").replaceChildren();
  const noToken = error.status === 401;
  const again = el("button", { class: "quiet-button", type: "button", textContent: noToken ? "Enter the token" : "Try again", on: { click: start } });
  $("trouble").replaceChildren(el("p", { textContent: noToken ? "This service answers only with its token." : error.message }), again);
}

// ---- beginning ----

function showRuns() {
  const wanted = fromAddress("run") ?? $("settings").run?.value;
  const chosen = runs.find((run) => run.name === wanted) ?? runs.find((run) => run.default) ?? runs[0];
  const kinds = runs.map((run) => KINDS[run.items_kind] ?? run.items_kind);
  const labels = runs.map((run, at) => (kinds.indexOf(kinds[at]) === kinds.lastIndexOf(kinds[at]) ? kinds[at] : run.name));
  const choices = runs.map((run, at) =>
    el(
      "label",
      { title: `${run.name}: ${run.kind}, ${count(run.items, "clip")}` },
      el("input", { type: "radio", name: "run", value: run.name, checked: run === chosen }),
      el("span", { textContent: labels[at] }),
    ),
  );
  $("runs").replaceChildren($("runs").firstElementChild, ...choices);
  $("runs").hidden = runs.length < 2;
  $("serving").textContent = chosen ? `${chosen.kind} · ${count(chosen.items, "clip")}` : "";
  $("serving").title = runs.map((run) => `${run.name}: model ${run.model}, index ${run.index}`).join("\n");
}

/** Some models have no index to search approximately. */
function offerSearches() {
  const form = $("settings");
  const run = runs.find((one) => one.name === options().run);
  const ann = form.querySelector("[value=ann]");
  ann.disabled = Boolean(run && !run.searches.includes("ann"));
  if (ann.disabled) form.search.value = "exact";
}

async function showChips() {
  const { users } = await api.get("v1/users", { limit: CHIPS });
  const chips = [null, ...users.map(({ user }) => user)].map((user) => {
    const chip = el("button", { class: "chip", type: "button", title: user }, el("bdi", { textContent: user ?? "You" }));
    chip.addEventListener("click", () => choose(user === null ? new OwnHistory(api) : new Viewer(api, user)));
    chip.user = user;
    return chip;
  });
  $("chips").replaceChildren(...chips);
  showWho();
}

/** Who watches, and through which run, stand in the address, so that a page can be kept and sent. */
function remember() {
  const parts = new URLSearchParams();
  if (who.name !== null) parts.set("user", who.name);
  const { run } = options();
  if (run && !runs.find((one) => one.name === run)?.default) parts.set("run", run);
  if (parts.toString() !== location.hash.slice(1)) history.pushState(null, "", parts.size ? `#${parts}` : location.pathname);
}

const fromAddress = (name) => new URLSearchParams(location.hash.slice(1)).get(name);

/** Who the address says is watching: the one we have, if it is the same. */
function whoFromAddress() {
  const user = fromAddress("user");
  if (user === who.name) return who;
  return user === null ? new OwnHistory(api) : new Viewer(api, user);
}

/** Ask what is served: runs, then some viewers and the catalogue, and `also`. */
async function lookAround(also) {
  ({ runs } = await api.get("v1/runs"));
  showRuns();
  await Promise.all([showChips(), catalogue.show($("clip-query").value.trim()), also?.()]);
}

async function start() {
  trouble(null);
  await guarded(() => lookAround(() => choose(whoFromAddress(), true)));
}

const loadItems = (query, offset, limit, signal) => api.get("v1/items", { query, offset, limit }, signal);
const loadUsers = async (query, limit, signal) => (await api.get("v1/users", { query, limit }, signal)).users;

const catalogue = new Catalogue($("catalogue"), loadItems, {
  onWatch: watch,
  onFail: fail,
  onTotal: (total, reachable) => {
    $("catalogue-count").textContent = total.toLocaleString("en") + (total > reachable ? "; search to reach them all" : "");
    $("catalogue").hidden = !total;
    $("catalogue-empty").hidden = total > 0;
    $("catalogue-empty").replaceChildren("No clip matches ", el("bdi", { textContent: $("clip-query").value }), ".");
  },
});

notices(api);
ringTheReasons();
new Finder($("viewer"), $("viewers"), loadUsers, (user) => choose(new Viewer(api, user)));
$("over").addEventListener("click", () => choose(new OwnHistory(api, [])));
$("undo").addEventListener("click", undo);
$("clip-query").addEventListener("input", settled(() => catalogue.show($("clip-query").value.trim()), 150));
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("settings").addEventListener("change", (event) => {
  if (event.target.name === "popular") return popular();
  remember();
  return recommend();
});
addEventListener("popstate", start);
start();

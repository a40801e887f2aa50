/** What to watch next: the recommended clips, why, how long it took, and what everybody watches beside them. */

import { card, nameOf, picture, row, skeleton, title } from "./cards.js";
import { $, count, el, milliseconds, place } from "./dom.js";
import { ring } from "./watched.js";

const MOST_SKELETONS = 12;

/** Show an answer of the service to `who`; `onWatch` is called with the clip that was clicked. */
export function showNext(answer, who, tookMs, onWatch) {
  const seen = new Set(who.watched.map((clip) => clip.item));
  const before = itemsOf($("cards"));
  const cards = answer.items.map((clip, at) => {
    const meta = [`${at + 1}`, Number.isFinite(clip.score) ? clip.score.toFixed(2) : ""];
    const made = card(clip, { meta, badge: seen.has(clip.item) ? "Seen" : "", because: because(clip, who), onWatch });
    return el("li", { class: before.has(clip.item) ? null : "new" }, made);
  });
  place($("cards"), cards);
  if (cards.length) sayInstead(null);
  else sayInstead("Nothing is left to recommend: every clip was seen. Tick “Seen clips too” to list them again.");
  showLatency(answer.took_ms ?? {}, tookMs);
  showFallback(answer, who);
}

/** Empty boxes where the list will be. */
export function showSkeletons(k) {
  sayInstead(null);
  $("cards").replaceChildren(...Array.from({ length: Math.min(k, MOST_SKELETONS) }, () => el("li", {}, skeleton())));
}

export const hasCards = () => $("cards").querySelector(".watch") !== null;

export function clearNext() {
  $("cards").replaceChildren();
  $("latency").replaceChildren();
  $("fallback").hidden = true;
  sayInstead(null);
}

/** Show the popular clips of `answer` beside the list, or nothing. */
export function showPopular(answer, onWatch) {
  $("popular").hidden = !answer;
  if (!answer) return;
  const listed = itemsOf($("cards"));
  const rows = answer.items.map((clip, at) => el("li", {}, row(clip, at + 1, listed.has(clip.item) ? "in both lists" : "", onWatch)));
  place($("popular-cards"), rows);
}

/** Resting on a recommendation rings the watched clips it is near to. */
export function ringTheReasons() {
  const over = (event) => ring(event.target.closest(".card")?.querySelector(".because")?.items);
  for (const type of ["pointerover", "focusin"]) $("cards").addEventListener(type, over);
  for (const type of ["pointerleave", "focusout"]) $("cards").addEventListener(type, () => ring(null));
}

const itemsOf = (list) => new Set([...list.querySelectorAll(".card")].map((one) => one.clip?.item));

function sayInstead(text) {
  $("next-empty").hidden = !text;
  $("next-empty").textContent = text ?? "";
}

function because(clip, who) {
  const near = clip.because ?? [];
  if (!near.length) return null;
  const first = who.watched.find((one) => one.item === near[0].item) ?? near[0]; // a watched clip brings its picture
  const reasons = near.map((one) => `${nameOf(one)} (${one.similarity.toFixed(2)})`).join(", ");
  const text = el("span", { class: "because-text" }, el("span", { class: "meta", textContent: "Because of " }), title(first));
  const line = el("p", { class: "because", title: `Nearest of what was watched: ${reasons}` }, picture(first), text);
  line.items = new Set(near.map((one) => one.item));
  return line;
}

function showLatency({ state, search }, tookMs) {
  const parts = [el("strong", { textContent: milliseconds(tookMs) }), el("span", { class: "words", textContent: " there and back" })];
  if (Number.isFinite(search)) {
    parts.push(el("span", { class: "parts", textContent: `state ${milliseconds(state ?? 0)}, search ${milliseconds(search)}` }));
  }
  $("latency").replaceChildren(...parts);
}

function showFallback(answer, who) {
  let hint = answer.skipped ? `${count(answer.skipped, "watched clip")} this model has never seen.` : "";
  if (!who.watched.length) hint = "Nothing was watched yet, so these are the clips that most people watched. Click one to begin.";
  else if (answer.fallback === "popularity") hint = "The model knows nothing of this viewer, so these are the clips that most people watched.";
  else if (answer.fallback) hint = "The model knows nothing of this viewer, so these are popular clips, mixed with what is near to what they just watched.";
  $("fallback").textContent = hint;
  $("fallback").hidden = !hint;
}

/** The strip of what was watched, in order of time. */

import { nameOf, watchedCard } from "./cards.js";
import { $, count, el, motionIsReduced } from "./dom.js";

/** Show what `who` watched; with null, the room for it. */
export function showWatched(who) {
  const watched = who?.watched ?? [];
  const strip = $("strip");
  const before = strip.childElementCount;
  strip.replaceChildren(...watched.map((clip, at) => el("li", {}, watchedCard(clip, at + 1, watched.length))));
  strip.hidden = !watched.length;
  strip.scrollTo({ left: strip.scrollWidth, behavior: before && !motionIsReduced() ? "smooth" : "instant" });
  const words = [count(watched.length, "clip"), el("span", { class: "words", textContent: ", the latest last" })];
  $("watched-count").replaceChildren(...(watched.length ? words : []));
  $("watched-empty").hidden = !who || watched.length > 0;
  if (who) $("watched-empty").replaceChildren(...instead(who));
  $("over").hidden = !watched.length || who.name !== null;
  const last = who?.undoable;
  $("undo").hidden = !last;
  $("undo").title = last ? `Take back ${nameOf(last)}` : "";
}

/** Ring the clips of these items, and no others. */
export function ring(items) {
  for (const watched of $("strip").querySelectorAll(".card")) watched.classList.toggle("lit", Boolean(items?.has(watched.clip.item)));
}

function instead(who) {
  const say = (big, small) => [el("p", { class: "big" }, ...big), el("p", { textContent: small })];
  if (who.name === null) return say(["Choose a viewer, or click a clip."], "What was watched stands here in order of time, and what to watch next follows below.");
  if (who.known) return say(["Nothing watched yet."], "Click any clip on this page. It moves here, and the list below follows.");
  return say(["Nobody called ", el("bdi", { textContent: who.name }), " has watched anything yet."], "Click a clip: from then on they are known.");
}

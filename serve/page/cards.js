/** Clips as people see them: a picture in a box of fixed shape, a title, and the clip itself when the pointer rests on it. */

import { el, moment, motionIsReduced } from "./dom.js";

const REST_MS = 180; // a pointer that only passes by starts nothing

export const nameOf = (clip) => clip.title || clip.item;

/** A name of a clip: its own direction of writing, or its id in the type of ids. */
export function title(clip, tag = "span") {
  return el(tag, { class: clip.title ? "title" : "title id", dir: "auto", textContent: nameOf(clip) });
}

/** The picture of a clip; its id where there is none. */
export function picture(clip) {
  const frame = el("span", { class: "frame" });
  const instead = () => frame.prepend(el("span", { class: "instead", dir: "auto", "aria-hidden": "true", textContent: clip.item }));
  if (!clip.thumbnail) {
    instead();
    return frame;
  }
  const image = el("img", { alt: "", loading: "lazy", decoding: "async", width: 144, height: 192 });
  image.addEventListener("error", () => (image.remove(), instead()), { once: true });
  image.src = clip.thumbnail;
  frame.append(image);
  return frame;
}

/**
 * A clip that can be watched: the whole card is a button.
 * @param {{meta?: string[], badge?: string, because?: Node, onWatch: (clip) => void}} options
 */
export function card(clip, options) {
  const frame = picture(clip);
  if (options.badge) frame.append(el("span", { class: "badge", textContent: options.badge }));
  const button = el(
    "button",
    { class: "watch", type: "button", on: { click: (event) => options.onWatch(clip, event) } },
    frame,
    options.meta && el("span", { class: "meta" }, ...options.meta.map((textContent) => el("span", { textContent }))),
    el("span", { class: "unseen", textContent: "Watch " }),
    title(clip),
  );
  button.addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.preventDefault()); // held, it is one press
  const whole = el("div", { class: "card" }, button, options.because);
  whole.clip = clip;
  if (clip.media) playable(whole, frame, clip);
  return whole;
}

/** A clip in the strip of what was watched: to look at, not to press. */
export function watchedCard(clip, place, total) {
  const frame = picture(clip);
  const when = clip.time
    ? el("time", { class: "meta", dateTime: clip.time, textContent: moment(clip.time) })
    : el("span", { class: "meta", textContent: `${place} of ${total}` });
  const whole = el("div", { class: "card" }, frame, title(clip), when);
  whole.clip = clip;
  if (clip.media) playable(whole, frame, clip);
  return whole;
}

/** One line of a plain list: place, small picture, title. */
export function row(clip, place, note, onWatch) {
  const button = el(
    "button",
    { class: "row", type: "button", on: { click: (event) => onWatch(clip, event) } },
    el("span", { class: "place", textContent: place }),
    picture(clip),
    el("span", { class: "row-text" }, el("span", { class: "unseen", textContent: "Watch " }), title(clip), note && el("span", { class: "meta", textContent: note })),
  );
  button.clip = clip;
  return button;
}

export const skeleton = () => el("div", { class: "card skeleton", "aria-hidden": "true" }, el("span", { class: "frame" }), el("span", { class: "bar" }), el("span", { class: "bar short" }));

let playing = null; // {stop}: one clip plays at a time

/** The clip plays, muted, while the pointer rests on its card, or after its own button was pressed. */
function playable(whole, frame, clip) {
  let timer, video;
  const button = el("button", { class: "play", type: "button", "aria-label": `Play ${nameOf(clip)}`, "aria-pressed": "false" });
  const stop = () => {
    clearTimeout(timer);
    video?.remove();
    video?.removeAttribute("src"); // else the rest of the file goes on loading
    video?.load();
    video = undefined;
    button.setAttribute("aria-pressed", "false");
    if (playing?.stop === stop) playing = null;
  };
  const start = () => {
    playing?.stop();
    playing = { stop };
    video = el("video", { muted: true, loop: true, playsInline: true, preload: "auto", tabIndex: -1, "aria-hidden": "true" });
    video.addEventListener("error", () => video?.src && (stop(), whole.classList.add("unplayable")));
    video.addEventListener("playing", (event) => event.target.classList.add("shown")); // until then the picture stays
    video.src = clip.media;
    frame.append(video);
    button.setAttribute("aria-pressed", "true");
    video.play().catch(() => {}); // refused or stopped before it began: `error` and `stop` say which
  };
  button.addEventListener("click", () => (video ? stop() : start()));
  whole.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse" || motionIsReduced() || video) return;
    timer = setTimeout(start, REST_MS);
  });
  whole.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && stop());
  whole.append(button);
}

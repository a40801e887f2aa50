/** Small helpers for building the page. Text that comes from the service only ever becomes text nodes, never markup. */

/** Id -> element of index.html. */
export const $ = (id) => document.getElementById(id);

/**
 * An element with its properties and children.
 * `class` and names with a hyphen are attributes, `on` is {event: listener}, anything else a property.
 */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "on") for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
    else if (name === "class" || name === "role" || name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Put `children` into `list` in that order; a child that holds the focus keeps it, or hands it to the one now in its place. */
export function place(list, children) {
  const held = list.contains(document.activeElement) ? document.activeElement : null;
  const at = held ? [...list.children].findIndex((child) => child.contains(held)) : -1;
  list.replaceChildren(...children);
  if (!held) return;
  const heir = list.contains(held) ? held : children[Math.min(at, children.length - 1)]?.querySelector("button");
  heir?.focus({ preventScroll: true });
}

export const motionIsReduced = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** "1 clip", "12,000 clips". */
export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Milliseconds as people read them. */
export const milliseconds = (ms) => (ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** An RFC 3339 time as a clock time if it was today, as a date if not. */
export function moment(text) {
  const time = new Date(text);
  const today = time.toDateString() === new Date().toDateString();
  return time.toLocaleString("en-GB", today ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short", year: "numeric" });
}

/** Call `action` when `wait_ms` have passed without another call. */
export function settled(action, wait_ms) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), wait_ms);
  };
}

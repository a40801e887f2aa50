/** What the page says when it has to wait: the service is away, busy or slow, or wants a token. */

import { $ } from "./dom.js";

const SHOW_PROGRESS_MS = 150; // answers usually come sooner, and a line that flashes is noise
const SAY_BACK_MS = 2500;

/** Tie the notices of the page to the service. */
export function notices(api) {
  let timer, goes;
  const banner = (text, kind) => {
    clearTimeout(goes);
    $("banner").className = `banner ${kind}`;
    $("banner").textContent = text;
    $("banner").hidden = !text;
    document.body.classList.toggle("away", kind === "lost");
  };
  api.addEventListener("working", () => (timer = setTimeout(() => ($("progress").hidden = false), SHOW_PROGRESS_MS)));
  api.addEventListener("idle", () => {
    clearTimeout(timer);
    $("progress").hidden = true;
    if (!api.away && $("banner").classList.contains("busy")) banner("", "");
  });
  api.addEventListener("lost", () => banner("The service does not answer. This page tries again by itself; what you clicked is sent when it is back.", "lost"));
  api.addEventListener("back", () => {
    banner("The service is back.", "back");
    goes = setTimeout(() => banner("", ""), SAY_BACK_MS);
  });
  api.addEventListener("busy", ({ detail }) => banner(`The service is busy. Trying again in ${Math.ceil(detail.seconds)} s.`, "busy"));
  api.addEventListener("slow", () => !api.away && !api.asking && banner("This takes longer than usual. Still waiting.", "busy"));
  api.addEventListener("quick", () => !api.away && $("banner").classList.contains("busy") && banner("", ""));
}

/** Ask for the token of the service; null if the person would not say. */
export function askToken(again) {
  const dialog = $("token");
  $("token-why").textContent = again
    ? "That token was not accepted. It is the one the service was started with."
    : "It is the one the service was started with. It is kept in this tab and forgotten with it.";
  $("token-value").value = "";
  return new Promise((resolve) => {
    $("token-cancel").onclick = () => dialog.close("");
    dialog.onclose = () => resolve(dialog.returnValue === "ok" ? $("token-value").value.trim() : null);
    dialog.returnValue = "";
    dialog.showModal();
    $("token-value").focus();
  });
}

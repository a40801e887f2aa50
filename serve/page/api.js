/**
 * Talking to the service. A request here ends in an answer or in a `Refused`; everything that passes by itself is waited for:
 * the service is away (`lost`, `back`), busy (429 and 503 say for how long), or wants a token (401).
 */

const SLOW_MS = 1000;
const LONGEST_WAIT_SECONDS = 30;
const MOST_TRIES = 6;
const LOOK_AGAIN_MS = [500, 1000, 2000, 4000];
const TOKEN = "vivim-token";

/** The service answered, and the answer is no. `code` is stable, `message` is for people. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

export const wasAborted = (error) => error?.name === "AbortError";

/** Emits `lost`, `back`, `slow` and `quick`, `busy` ({seconds}), `working` and `idle`. */
export class Api extends EventTarget {
  /** @param {(again: boolean) => Promise<string | null>} askToken asks the person; null if they would not say. */
  constructor(askToken) {
    super();
    Object.assign(this, { askToken, running: 0, slow: 0, away: null, asking: null });
  }

  get = (path, query, signal) => this.request("GET", path + asQuery(query), undefined, signal);
  post = (path, body, query, signal) => this.request("POST", path + asQuery(query), body, signal);
  delete = (path, signal) => this.request("DELETE", path, undefined, signal);

  /** The JSON of an answer. Repeating is safe: what changes anything carries an event id. */
  async request(method, path, body, signal) {
    const done = this.#watch();
    try {
      for (let tries = 1; ; tries++) {
        const { response, answer, token } = await this.#fetch(method, path, body, signal);
        if (response.ok && answer !== null) return answer;
        const refusal = refusalOf(response, answer);
        if (response.status === 401) await this.#newToken(refusal, token);
        else if ((response.status === 429 || response.status === 503) && tries < MOST_TRIES) {
          const seconds = waitSeconds(response);
          this.#emit("busy", { seconds });
          await pause(seconds * 1000, signal);
        } else throw refusal;
      }
    } finally {
      done();
    }
  }

  /** One whole answer, however long the service is away before it comes; `answer` is null if it is no JSON. */
  async #fetch(method, path, body, signal) {
    for (;;) {
      const token = sessionStorage.getItem(TOKEN);
      const headers = { Accept: "application/json" };
      if (body !== undefined) headers["Content-Type"] = "application/json";
      if (token) headers.Authorization = `Bearer ${token}`;
      try {
        const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
        return { response, token, answer: asJson(await response.text()) };
      } catch (error) {
        if (wasAborted(error) || !(error instanceof TypeError)) throw error;
        await Promise.race([this.#untilBack(), aborted(signal)]); // TypeError is how fetch says that nobody answered, or not to the end
      }
    }
  }

  /** Ask `/healthz` until it answers; all requests wait for the same one. */
  #untilBack() {
    this.away ??= (async () => {
      this.#emit("lost");
      for (let tries = 0; ; tries++) {
        await pause(LOOK_AGAIN_MS[Math.min(tries, LOOK_AGAIN_MS.length - 1)]);
        const response = await fetch("healthz", { cache: "no-store" }).catch(() => null);
        if (response?.ok) break;
      }
      this.away = null;
      this.#emit("back");
    })();
    return this.away;
  }

  /** @param {string | null} sent the token that was refused: another request may have brought a better one since. */
  async #newToken(refusal, sent) {
    const now = sessionStorage.getItem(TOKEN);
    if (now && now !== sent) return;
    this.asking ??= this.askToken(sent !== null).finally(() => (this.asking = null));
    const token = await this.asking;
    if (!token) throw refusal;
    sessionStorage.setItem(TOKEN, token);
  }

  #watch() {
    if (this.running++ === 0) this.#emit("working");
    let slow = false;
    const timer = setTimeout(() => {
      slow = true;
      if (this.slow++ === 0) this.#emit("slow");
    }, SLOW_MS);
    return () => {
      clearTimeout(timer);
      if (slow && --this.slow === 0) this.#emit("quick");
      if (--this.running === 0) this.#emit("idle");
    };
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function asQuery(query) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

function asJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // something between us and the service may answer in HTML
  }
}

function refusalOf(response, answer) {
  const { code, message } = answer?.error ?? {};
  const unclear = `Something answered ${response.status} in the place of the service.`;
  return new Refused(response.status, code ?? `http_${response.status}`, message ?? unclear);
}

function waitSeconds(response) {
  const told = Number(response.headers.get("Retry-After"));
  return Math.min(LONGEST_WAIT_SECONDS, Number.isFinite(told) && told > 0 ? told : 1);
}

function aborted(signal) {
  return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason), { once: true }));
}

function pause(ms, signal) {
  return Promise.race([new Promise((resolve) => setTimeout(resolve, ms)), aborted(signal)]);
}

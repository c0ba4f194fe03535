// Answers on their way to the server: each is kept in the browser until the server says that it is stored.
//
// An answer has the id of its trial, and the server keeps the first one with an id: sending again does no harm.

const RETRY = 2000;
const TIMEOUT = 10000;

/** What the server said about a request that it refused. */
export class Refusal extends Error {}

/** Sends JSON, returns JSON. Throws Refusal if the server refuses it, another error if there is no connection. */
export async function request(path, body) {
  const options = { signal: AbortSignal.timeout(TIMEOUT) };
  if (body) Object.assign(options, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const response = await fetch(path, options);
  const value = await response.json();
  if (!response.ok) throw Object.assign(new Refusal(value.error), { status: response.status });
  return value;
}

/** The browser's storage, or memory where it is switched off: then a reload loses what was not sent. */
function openStorage() {
  try {
    localStorage.setItem("maskgan", "");
    localStorage.removeItem("maskgan");
    return localStorage;
  } catch {
    const items = new Map();
    return {
      getItem: (name) => items.get(name) ?? null,
      setItem: (name, value) => items.set(name, value),
      removeItem: (name) => items.delete(name),
      key: (place) => [...items.keys()][place],
      get length() {
        return items.size;
      },
    };
  }
}

export class Answers {
  /** `study` tells studies at one address apart; `show` gets a sentence on the connection, or "". */
  constructor(study, show) {
    this.storage = openStorage();
    this.prefix = `maskgan ${study} `;
    this.show = show;
    this.sending = false;
    addEventListener("online", () => this.send());
  }

  /** This browser's key in the study, made when it is first asked for. */
  get key() {
    const name = `${this.prefix}key`;
    let key = this.storage.getItem(name);
    if (!key) {
      key = Array.from(crypto.getRandomValues(new Uint8Array(24)), (byte) => byte.toString(16).padStart(2, "0")).join("");
      this.storage.setItem(name, key);
    }
    return key;
  }

  /** The answers that the server has not stored yet. */
  get waiting() {
    const names = Array.from({ length: this.storage.length }, (_, place) => this.storage.key(place));
    return names.filter((name) => name.startsWith(`${this.prefix}answer `)).map((name) => JSON.parse(this.storage.getItem(name)));
  }

  /** Keeps an answer and sends it. Each has an item of its own, so that two tabs do not overwrite each other's. */
  add(answer) {
    this.storage.setItem(`${this.prefix}answer ${answer.trial}`, JSON.stringify(answer));
    this.send();
  }

  /** Sends what waits, again and again until it is stored. */
  async send() {
    if (this.sending) return;
    this.sending = true;
    try {
      for (let batch; (batch = this.waiting.slice(0, 100)).length; ) {
        const { stored, refused } = await request("/answers", { key: this.key, answers: batch });
        for (const trial of [...stored, ...Object.keys(refused)]) this.storage.removeItem(`${this.prefix}answer ${trial}`);
        if (!stored.length && !Object.keys(refused).length) throw new Error("nothing was stored");
      }
      this.show("");
    } catch (error) {
      const why = error instanceof Refusal ? `The answers are not stored: ${error.message}.` : "There is no connection.";
      this.show(`${why} Go on: your answers are kept in this browser and sent as soon as possible.`);
      setTimeout(() => this.send(), RETRY);
    } finally {
      this.sending = false;
    }
  }

  /** Resolves when nothing waits any more. */
  async allStored() {
    for (this.send(); this.waiting.length; ) await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

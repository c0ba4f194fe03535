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

export class Answers {
  /** `study` tells studies at one address apart; `show` gets a sentence on the connection, or "". */
  constructor(study, show) {
    this.prefix = `maskgan ${study} `;
    // What is shown when there is nothing else to show.
    this.warning = "";
    this.show = (sentence) => show(sentence || this.warning);
    this.sending = false;
    // All that is kept. The browser's storage has the same, unless it is full or switched off: then a reload loses it.
    this.items = new Map();
    try {
      for (const [name, value] of Object.entries(localStorage)) if (name.startsWith(this.prefix)) this.items.set(name, value);
    } catch {}
    addEventListener("online", () => this.send());
    addEventListener("beforeunload", (event) => this.waiting.length && event.preventDefault());
  }

  keep(name, value) {
    this.items.set(this.prefix + name, value);
    try {
      localStorage.setItem(this.prefix + name, value);
    } catch {
      this.warning = "This browser keeps nothing: leave this page open until the end, and do not load it again.";
      this.show("");
    }
  }

  drop(name) {
    this.items.delete(this.prefix + name);
    try {
      localStorage.removeItem(this.prefix + name);
    } catch {}
  }

  /** This browser's key in the study, made when it is first asked for. */
  get key() {
    if (!this.items.has(`${this.prefix}key`)) {
      const bytes = crypto.getRandomValues(new Uint8Array(24));
      this.keep("key", Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""));
    }
    return this.items.get(`${this.prefix}key`);
  }

  /** The trial that was begun last: after a reload, it comes once more. */
  get begun() {
    return this.items.get(`${this.prefix}begun`);
  }

  /** The answers that the server has not stored yet. */
  get waiting() {
    return this.kept("answer ");
  }

  /** The answers that the server refused; they stay in the browser, and `why` is what it said. */
  get refused() {
    return this.kept("refused ");
  }

  kept(kind) {
    const entries = [...this.items].filter(([name]) => name.startsWith(this.prefix + kind));
    return entries.map(([, value]) => JSON.parse(value));
  }

  /** Keeps an answer and sends it. Each has an item of its own, so that two tabs do not overwrite each other's. */
  add(answer) {
    this.keep(`answer ${answer.trial}`, JSON.stringify(answer));
    this.send();
  }

  /** Sends what waits, again and again until it is stored. */
  async send() {
    if (this.sending) return;
    this.sending = true;
    try {
      for (let batch; (batch = this.waiting.slice(0, 100)).length; ) {
        const { stored, refused } = await request("/answers", { key: this.key, answers: batch });
        for (const answer of batch) {
          const why = refused[answer.trial];
          if (why) this.keep(`refused ${answer.trial}`, JSON.stringify({ ...answer, why }));
        }
        const settled = [...stored, ...Object.keys(refused)];
        for (const trial of settled) this.drop(`answer ${trial}`);
        if (!settled.length) throw new Error("nothing was stored");
      }
      this.show("");
    } catch (error) {
      const why = error instanceof Refusal ? `The answers are not stored: ${error.message}.` : "There is no connection.";
      this.show(`${why} Go on: your answers are kept in this ${this.warning ? "page: leave it open. They are" : "browser and"} sent as soon as possible.`);
      clearTimeout(this.timer); // One is enough, however often it fails.
      this.timer = setTimeout(() => this.send(), RETRY);
    } finally {
      this.sending = false;
    }
  }

  /** Resolves when nothing waits any more. */
  async allStored() {
    for (this.send(); this.waiting.length; ) await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

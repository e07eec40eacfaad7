// The till's events, for ever: EventSource cannot send a token, so the stream is read by fetch. Whatever was missed is
// told again from Last-Event-ID on.

const SILENCE_MS = 40000; // the till says something every 15 s
const LONGEST_PAUSE_MS = 5000;

export class Stream {
  #lastId = null;
  #failures = 0;
  #isUp = false;
  #ended = false;
  #abort = null;

  /** `onEvent(name, data)`, `onLine("up" | "down", status)` */
  constructor(token, onEvent, onLine) {
    this.token = token;
    this.onEvent = onEvent;
    this.onLine = onLine;
  }

  async run() {
    while (!this.#ended) {
      const status = await this.#read().catch(() => 0);
      if (this.#ended) return;
      this.#isUp = false;
      this.onLine("down", status);
      this.#failures += 1;
      const pause = Math.random() * Math.min(LONGEST_PAUSE_MS, 250 * 2 ** this.#failures);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  end() {
    this.#ended = true;
    this.#abort?.abort();
  }

  async #read() {
    this.#abort = new AbortController();
    const headers = { Authorization: `Bearer ${this.token}`, Accept: "text/event-stream" };
    if (this.#lastId) headers["Last-Event-ID"] = this.#lastId;
    const answer = await fetch("/v1/events", { headers, signal: this.#abort.signal });
    if (!answer.ok) return answer.status;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const watchdog = setTimeout(() => this.#abort.abort(), SILENCE_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(watchdog));
      if (done) return 0;
      if (!this.#isUp) {
        this.#isUp = true;
        this.#failures = 0;
        this.onLine("up", 200);
      }
      text = this.#take((text + value).replaceAll("\r\n", "\n"));
    }
  }

  /** Tell every whole event in `text`; what is left of it. */
  #take(text) {
    const parts = text.split("\n\n");
    for (const part of parts.slice(0, -1)) {
      const event = parseEvent(part);
      if (event.id) this.#lastId = event.id;
      if (event.data) this.onEvent(event.name, JSON.parse(event.data));
    }
    return parts.at(-1);
  }
}

/** One event of a stream: the HTML standard's fields, as far as the till sends them. */
export function parseEvent(text) {
  const event = { name: "message", data: "", id: null };
  for (const line of text.split("\n")) {
    const [, field, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (field === "data") event.data += value;
    if (field === "event") event.name = value;
    if (field === "id") event.id = value;
  }
  return event;
}

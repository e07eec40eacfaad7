// The till's HTTP API.

const RETRIES_MS = [300, 1000, 2500];

/** The till said no: `body` is its RFC 9457 problem, or null when it could not be reached. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.code ?? "unreachable");
    this.status = status;
    this.body = body;
  }
}

export class Api {
  /** `session`: who is signed in, where the shop names cashiers. */
  constructor(token, session = null) {
    this.token = token;
    this.session = session;
  }

  get(path) {
    return this.#ask("GET", path);
  }

  /** With a key of its own, so that it can be sent again when the answer is lost and still happens once. `approval`:
   * what a supervisor gave for it. */
  async post(path, body, approval = null) {
    const more = { "Idempotency-Key": crypto.randomUUID(), ...(approval && { "Cashier-Approval": approval }) };
    for (const pause of RETRIES_MS) {
      try {
        return await this.#ask("POST", path, body, more);
      } catch (problem) {
        if (problem.body) throw problem;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
    return this.#ask("POST", path, body, more);
  }

  async #ask(method, path, body, more) {
    const headers = { ...more };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (this.session) headers["Cashier-Session"] = this.session;
    if (body) headers["Content-Type"] = "application/json";
    let answer, document;
    try {
      answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
      document = await answer.json();
    } catch {
      throw new Problem(0, null);
    }
    if (!answer.ok) throw new Problem(answer.status, document);
    return document;
  }
}

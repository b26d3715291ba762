// The way to the server and back; docs/reference/zendesk-app.md is its contract.
//
// Every event has (job, seq). What was seen twice is dropped, a gap is asked for again, and a request that
// was not acknowledged is sent again under the same id after a reconnect: the server knows it by that id.

import { io } from "./vendor/socket.io.esm.min.js";

const ACK_MS = 10_000;
const RETRY_MS = 5_000;

export class Transport {
  #socket;
  #url;
  #ticket;
  #session;
  #locale;
  #refresh;
  #seen = new Map(); // job → last seq
  #resumed = new Map(); // job → last seq before a gap that was asked for
  #unacknowledged = new Map(); // request id → {name, payload, done}
  #listeners;

  /** `listeners`: onState(state), onHello(hello), onEvent(event). `refresh(session)` → new session. */
  constructor({ url, ticket, locale, session, refresh, listeners, connect = io }) {
    this.#url = url;
    this.#ticket = ticket;
    this.#session = session;
    this.#locale = locale;
    this.#refresh = refresh;
    this.#listeners = listeners;
    this.#socket = connect(`${url}/support`, {
      path: "/socket.io",
      transports: ["websocket"],
      reconnectionDelay: 500,
      reconnectionDelayMax: 8000,
      auth: (give) => give({ token: this.#session, ticket, locale, since: Object.fromEntries(this.#seen) }),
    });
    this.#listen();
  }

  #listen() {
    const { onState, onHello } = this.#listeners;
    this.#socket.on("connect", () => {
      onState("online");
      for (const id of this.#unacknowledged.keys()) this.#send(id);
    });
    this.#socket.on("disconnect", (reason) => {
      onState(reason === "io client disconnect" ? "closed" : "reconnecting");
      if (reason === "io server disconnect") this.#renew(); // the session ran out while connected
    });
    this.#socket.on("connect_error", (error) => {
      if (error.data?.code?.startsWith("auth.") || error.message === "unauthorized") this.#renew();
      else {
        onState("reconnecting");
        // The server said no, and the client does not try again by itself: too many tickets are open, say.
        if (!this.#socket.active) setTimeout(() => this.#socket.connect(), RETRY_MS);
      }
    });
    this.#socket.on("hello", onHello);
    this.#socket.on("session_expiring", () => this.#renew());
    this.#socket.on("job", (event) => this.#receive(event));
  }

  async #renew() {
    try {
      this.#session = await this.#refresh(this.#session);
      if (this.#socket.connected) this.#socket.emit("session", { token: this.#session });
      else this.#socket.connect();
    } catch {
      this.#listeners.onState("refused");
    }
  }

  #receive(event) {
    const last = this.#seen.get(event.job) ?? 0;
    if (event.seq <= last) return;
    if (event.seq > last + 1) {
      // What is missing comes first, then this one again. Asked for once for each gap.
      if (this.#resumed.get(event.job) === last) return;
      this.#resumed.set(event.job, last);
      this.#socket.timeout(ACK_MS).emit("resume", { jobs: { [event.job]: last } }, (error, answer) => {
        if (error || !answer.ok) this.#resumed.delete(event.job); // the next event asks again
      });
      return;
    }
    this.#seen.set(event.job, event.seq);
    this.#listeners.onEvent(event);
  }

  #send(id) {
    const request = this.#unacknowledged.get(id);
    if (!request || !this.#socket.connected) return;
    const { name, payload, done } = request;
    this.#socket.timeout(ACK_MS).emit(name, payload, (error, answer) => {
      // No answer: again under the same id, at once or after the reconnect.
      if (error) this.#send(id);
      else if (this.#unacknowledged.delete(id)) done(answer);
    });
  }

  /** Send a request; resolves with the server's acknowledgement, however many reconnects that takes. */
  request(name, payload, id = crypto.randomUUID()) {
    return new Promise((done) => {
      this.#unacknowledged.set(id, { name, payload: { id, ...payload }, done });
      this.#send(id);
    });
  }

  /** What the server answers over HTTP; the session is renewed once where it has run out. */
  async #fetch(method, path, payload) {
    const ask = () => fetch(new URL(`/support/zendesk/${path}`, this.#url), {
      method,
      headers: { "Content-Type": "application/json", "Accept-Language": this.#locale, Authorization: `Bearer ${this.#session}` },
      body: payload && JSON.stringify(payload),
    });
    let answer = await ask();
    if (answer.status === 401) {
      await this.#renew();
      answer = await ask();
    }
    const body = await answer.json().catch(() => ({})); // none, or a proxy's page
    if (!answer.ok) throw new Error([body.detail, body.remedy].filter(Boolean).join(" ") || `HTTP ${answer.status}`);
    return body;
  }

  /** A short-lived address of a report: its event names only where it is. */
  async link(path) {
    return (await this.#fetch("POST", "links", { ticket: this.#ticket, url: path })).url;
  }

  /** {account, choices}: the ticket's account, and what may be chosen instead. */
  account() {
    return this.#fetch("GET", `tickets/${this.#ticket}/account`);
  }

  /** Let the ticket be about `account` from now on. */
  choose(account) {
    return this.#fetch("PUT", `tickets/${this.#ticket}/account`, { account });
  }

  /** What failed in a screening of the ticket and is not accepted, and what is accepted in its account. */
  async acceptance(record) {
    const [found, kept] = await Promise.all([
      this.#fetch("GET", `findings?ticket=${this.#ticket}&record=${encodeURIComponent(record)}`),
      this.#fetch("GET", `suppressions?ticket=${this.#ticket}`),
    ]);
    return { failing: found.items, accepted: kept.items };
  }

  /** Accept a finding: {check, resource, reason, expires}. */
  accept(what) {
    return this.#fetch("POST", "suppressions", { ticket: this.#ticket, ...what });
  }

  /** Let an accepted finding come back. */
  withdraw(id) {
    return this.#fetch("DELETE", `suppressions/${encodeURIComponent(id)}?ticket=${this.#ticket}`);
  }

  get connected() {
    return this.#socket.connected;
  }

  close() {
    this.#socket.disconnect();
  }
}

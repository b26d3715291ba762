// Test harness: stands in for socket.io's client. The test is the server: `wire` shows what was sent and emits.
class FakeSocket {
  connected = false;
  #listeners = new Map();

  constructor(url, options) {
    this.url = url;
    this.options = options;
    globalThis.wire = { socket: this, sent: [], auths: [], jobs: 0, acknowledged: 0, silent: false, emit: (...a) => this.fire(...a), drop: (reason) => this.drop(reason), restore: () => this.connect() };
    setTimeout(() => this.connect());
  }

  on(name, listener) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
  }

  fire(name, ...values) {
    for (const listener of this.#listeners.get(name) ?? []) listener(...values);
  }

  connect() {
    this.options.auth((auth) => {
      wire.auths.push(structuredClone(auth));
      this.connected = true;
      this.fire("connect");
      this.fire("hello", { account: "123456789012", organization: "Acme", role: "agent" });
    });
  }

  drop(reason = "transport close") {
    this.connected = false;
    this.fire("disconnect", reason);
  }

  timeout() {
    return this;
  }

  emit(name, payload, acknowledge) {
    wire.sent.push([name, structuredClone(payload)]);
    if (acknowledge && !wire.silent) {
      wire.jobs += 1;
      const answer = wire.refuse ? { ok: false, problem: wire.refuse } : { ok: true, job: `job-${wire.jobs}` };
      setTimeout(() => {
        acknowledge(null, answer);
        wire.acknowledged += 1;
      });
    }
  }

  disconnect() {
    this.drop("io client disconnect");
  }
}

export const io = (url, options) => new FakeSocket(url, options);

// Stands in for Zendesk's SDK, which only Zendesk serves: asks the page around the app, by messages.
globalThis.ZAFClient = {
  init() {
    const waiting = new Map();
    const listeners = new Map();
    addEventListener("message", ({ data, source }) => {
      if (source !== parent || !data.zaf) return;
      if (data.event) for (const listener of listeners.get(data.event) ?? []) listener(data.value);
      const [done, fail] = waiting.get(data.zaf) ?? [];
      waiting.delete(data.zaf);
      if (data.error) fail?.(new Error(data.error));
      else done?.(data.value);
    });
    let number = 0;
    const ask = (method, ...values) => new Promise((done, fail) => {
      number += 1;
      waiting.set(number, [done, fail]);
      parent.postMessage({ zaf: number, method, values }, "*");
    });
    return {
      get: (keys) => ask("get", [keys].flat()),
      set: (key, value) => ask("set", key, value),
      invoke: (name, ...values) => ask("invoke", name, ...values),
      request: (options) => ask("request", options),
      on(name, listener) {
        listeners.set(name, [...(listeners.get(name) ?? []), listener]);
      },
    };
  },
};

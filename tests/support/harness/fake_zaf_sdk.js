// Test harness: stands in for Zendesk's SDK, which only Zendesk serves. Speaks to the harness page directly.
globalThis.ZAFClient = {
  init() {
    const host = parent.harness;
    const values = {
      "ticket.id": () => host.ticket,
      "currentUser.locale": () => host.locale,
      colorScheme: () => host.scheme,
    };
    return {
      async get(keys) {
        return Object.fromEntries([keys].flat().map((key) => [key, values[key]?.()]));
      },
      async set(key, value) {
        host.invoked.push(["set", key, value]);
        parent.document.getElementById("editor").dataset.type = value;
        parent.document.getElementById("kind").textContent = value === "internalNote" ? "Internal note" : "Public reply";
      },
      async invoke(name, ...values) {
        host.invoked.push([name, ...values]);
        if (name === "comment.appendText") parent.document.getElementById("comment").textContent += values[0];
      },
      async request(options) {
        host.requests.push(options);
        if (host.refuseRefresh) throw new Error("401");
        return { session: `session-${host.requests.length + 1}` };
      },
      on(name, listener) {
        if (name === "colorScheme.changed") host.schemeListeners.push(listener);
      },
    };
  },
};

// Test harness: what Zendesk's page knows and does, as far as the app asks for it.
const query = new URLSearchParams(location.search);
globalThis.harness = {
  ticket: Number(query.get("ticket") ?? 4711),
  locale: query.get("locale") ?? "en-US",
  scheme: query.get("scheme") ?? "light",
  invoked: [],
  requests: [],
  refuseRefresh: query.has("refuse"),
  schemeListeners: [],
  setScheme(name) {
    this.scheme = name;
    document.body.classList.toggle("dark", name === "dark");
    for (const listener of this.schemeListeners) listener(name);
  },
};
addEventListener("DOMContentLoaded", () => {
  document.getElementById("ticket").textContent = harness.ticket;
  document.body.classList.toggle("dark", harness.scheme === "dark");
  const frame = document.createElement("iframe");
  frame.title = "AWS support";
  frame.src = "/support/zendesk/assets/iframe.html";
  document.querySelector("aside").append(frame);
});

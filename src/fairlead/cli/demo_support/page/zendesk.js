// Plays Zendesk's page around the app: opens it with a signed form, answers what its SDK asks.
const given = JSON.parse(document.getElementById("given").textContent);
const $ = (id) => document.getElementById(id);
const NOTE = "internalNote";

function show(text, id) {
  $(id).textContent = text;
}

function editor(kind) {
  $("editor").dataset.kind = kind;
  show(given.words[kind], "kind");
}

function setScheme(name) {
  given.scheme = name;
  document.documentElement.dataset.scheme = name;
  frame.contentWindow?.postMessage({ zaf: "event", event: "colorScheme.changed", value: name }, "*");
}

const answers = {
  get: (keys) => Object.fromEntries(keys.map((key) => [key, given.values[key] ?? (key === "colorScheme" ? given.scheme : undefined)])),
  set: (key, value) => { if (key === "comment.type") editor(value); },
  invoke: (name, value) => { if (name === "comment.appendText") $("comment").textContent += value; },
  // What Zendesk's proxy does: it signs with the installation's secret, which no page sees.
  async request(options) {
    const answer = await fetch("/proxy/apps/secure", { method: "POST", body: JSON.stringify(options) });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  },
};

const frame = $("app");
addEventListener("message", async ({ data, source, origin }) => {
  if (source !== frame.contentWindow || origin !== given.app || !answers[data.method]) return;
  try {
    source.postMessage({ zaf: data.zaf, value: await answers[data.method](...data.values) }, origin);
  } catch (error) {
    source.postMessage({ zaf: data.zaf, error: error.message }, origin);
  }
});

for (const [id, text] of Object.entries(given.shown)) show(text, id);
document.documentElement.lang = given.language;
editor("publicReply");
setScheme(given.scheme);
const form = $("signed");
form.action = given.location;
form.elements.token.value = given.token;
form.submit();
globalThis.zendesk = { setScheme, NOTE };

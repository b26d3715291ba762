// Puts the parts together: Zendesk on one side, the server on the other, the conversation in between.

import { mayAccept, openAcceptance } from "./acceptance.js";
import { ticketAccount } from "./account.js";
import { composer } from "./composer.js";
import * as conversation from "./conversation.js";
import { h, icon } from "./dom.js";
import { monthName, monthPicker } from "./months.js";
import { Transport } from "./transport.js";
import { show } from "./view.js";
import { openReport } from "./viewer.js";
import { languageOf, loadWords, spokenIn } from "./words.js";
import { Zendesk } from "./zendesk.js";

const HEIGHT = 620;
const TICK_MS = 5000;

function scheme(name) {
  if (name === "dark" || name === "light") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}

async function start() {
  const zendesk = new Zendesk(globalThis.ZAFClient.init());
  const { ticket, locale, scheme: wanted } = await zendesk.context();
  const language = languageOf(locale);
  const words = await loadWords(language);
  document.documentElement.lang = language;
  document.title = words("title");
  scheme(wanted);
  zendesk.onScheme(scheme);
  zendesk.resize(HEIGHT);

  let items = [];
  let transport;
  const state = h("span", { className: "state", role: "status" });
  const notice = h("div", { className: "notice", hidden: true, role: "status" });
  const toast = h("div", { className: "toast", role: "status", "aria-live": "polite" });
  const list = h("ol", { className: "items", role: "log", "aria-label": words("message.log"), "aria-live": "polite", "aria-relevant": "additions" });
  const panel = h("div", { className: "panel-place" });
  const scroller = h("div", { className: "scroller", tabIndex: 0, role: "region", "aria-label": words("message.log") });

  const act = {
    ask,
    copy: (text) => say(navigator.clipboard.writeText(text), words("insert.copied")),
    insert: (text, as, item) => say(insert(text, as, item), words(as === "reply" ? "insert.replied" : "insert.noted")),
    cancel,
    open: (item) => say(open(item), ""),
    accept,
    retry: (item) => retry(item),
    start: ({ job, month }) => (job === "report" ? report(month) : screen()),
  };
  let role = "agent";
  const tools = () => ({ words, act, language, now: Date.now(), accepts: mayAccept(role) });

  function draw(next) {
    const end = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    items = next;
    show(list, items, tools());
    welcome.hidden = items.length > 0;
    if (end) scroller.scrollTop = scroller.scrollHeight;
  }

  let clearing;
  async function say(done, text) {
    try {
      await done;
      toast.textContent = text;
    } catch (error) {
      toast.textContent = words("insert.failed", { reason: error.message ?? String(error) });
    }
    clearTimeout(clearing);
    clearing = setTimeout(() => { toast.textContent = ""; }, 4000);
  }

  async function request(name, text, payload) {
    const key = crypto.randomUUID();
    draw(conversation.asked(items, { key, text, what: name, payload, sent: transport.connected }));
    scroller.scrollTop = scroller.scrollHeight;
    const answer = await transport.request(name, { ticket, language, ...payload }, key);
    draw(conversation.acknowledged(items, key, answer)); // events may have come first: `items` is read now
  }

  function ask(text) {
    return request("ask", text, { text, language: spokenIn(text, language) }); // answered in the language it was asked in
  }

  function retry(item) {
    const question = items.findLast((other) => other.kind === "question" && (other.key === item.retry || other.job === item.job));
    if (question) request(question.what, question.text, question.payload);
  }

  function screen() {
    return request("screen", words("actions.screen"), {});
  }

  function report(month) {
    return request("report", `${words("actions.report")}: ${monthName(month, language)}`, { month });
  }

  async function insert(text, as, item) {
    await zendesk.insert(text, as);
    await transport.request("inserted", { ticket, job: item.job ?? null, as });
  }

  async function cancel(job) {
    draw(conversation.cancelling(items, job));
    await transport.request("cancel", { ticket, job });
  }

  async function open(item) {
    if (Date.parse(item.expires_at) < Date.now()) throw new Error(words("report.expired"));
    const url = await transport.link(item.url);
    openReport({ url, title: words(`report.${item.report}`), words });
  }

  function accept(item) {
    openAcceptance({
      words, language,
      look: () => transport.acceptance(item.record),
      accept: (what) => transport.accept(what),
      withdraw: (id) => transport.withdraw(id),
    });
  }

  /** Who the agent is may have changed since: reports offer what the role of now may do. */
  function greeted(hello) {
    account.greeted(hello);
    if (hello.role === role) return;
    role = hello.role;
    draw(items.map((item) => (item.kind === "report" ? { ...item } : item)));
  }

  function pickMonth(event) {
    const opener = event.currentTarget;
    const close = () => { panel.replaceChildren(); opener.focus(); };
    panel.replaceChildren(monthPicker({ now: new Date(), language, words, cancel: close, choose: (month) => { close(); report(month); } }));
  }

  const quick = [
    ["screen", "shield", screen],
    ["report", "chart", pickMonth],
    ["activity", "clock", () => ask(words("actions.activity_question"))],
    ["alarms", "bell", () => ask(words("actions.alarms_question"))],
    ["inventory", "list", () => ask(words("actions.inventory_question"))],
  ].map(([name, picture, onclick]) => h("button", { type: "button", className: "chip", "data-action": name, onclick }, icon(picture), words(`actions.${name}`)));
  const welcome = h("div", { className: "welcome" }, h("h2", {}, words("welcome.title")), h("p", { className: "soft" }, words("welcome.text")));
  const box = composer({ words, send: ask });
  const account = ticketAccount({ words, say, look: () => transport.account(), choose: (chosen) => transport.choose(chosen) });
  scroller.append(welcome, list);
  document.getElementById("app").replaceChildren(
    h("header", { className: "top" }, h("h1", {}, words("title")), state, account.element), notice, scroller, h("div", { className: "toast-place" }, toast), panel,
    h("div", { className: "chips quick", role: "group", "aria-label": words("actions.label") }, quick), box.form);

  function onState(name) {
    document.documentElement.dataset.state = name;
    state.textContent = name === "reconnecting" ? "" : words(`state.${name}`);
    notice.hidden = !["reconnecting", "refused"].includes(name);
    notice.textContent = name === "refused" ? words("error.session") : words("state.reconnecting");
  }

  onState("connecting");
  const session = document.querySelector('meta[name="fairlead-session"]').content;
  transport = new Transport({
    url: location.origin, ticket, locale: language, session, refresh: (old) => zendesk.refresh(old),
    listeners: { onState, onHello: greeted, onEvent: (event) => draw(conversation.happened(items, event, Date.now())) },
  });
  // A silent server is still at work: progress items say how long ago the last news was.
  setInterval(() => {
    if (items.some((item) => item.kind === "progress")) draw(items.map((item) => (item.kind === "progress" ? { ...item } : item)));
  }, TICK_MS);
}

start();

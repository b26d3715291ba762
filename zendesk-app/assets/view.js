// Items of the conversation as elements. Each kind has one function; `act` carries what the agent does.

import { h, icon } from "./dom.js";
import { monthName } from "./months.js";

const RETRY = new Set(["unavailable"]);

/** Text whose short words with hyphens (regions, dates) stay whole. */
function prose(text, props = {}) {
  const parts = String(text ?? "").split(/([A-Za-z0-9:.]+(?:-[A-Za-z0-9:.]+)+)/);
  return h("p", { className: "text", ...props }, parts.map((part, index) => (index % 2 && part.length <= 32 ? h("span", { className: "whole" }, part) : part)));
}

function button(label, picture, onclick, props = {}) {
  return h("button", { type: "button", className: "button", onclick, ...props }, picture && icon(picture), h("span", {}, label));
}

function author(words, who) {
  return h("span", { className: "visually-hidden" }, `${words(`message.${who}`)}: `);
}

/** What was asked; a colleague's screening or report, or one of before, comes without words. */
function asking(item, { words, language }) {
  if (item.text) return item.text;
  const month = item.payload?.month;
  return month ? `${words("actions.report")}: ${monthName(month, language)}` : words(`actions.${item.what === "report" ? "report" : "screen"}`);
}

function question(item, tools) {
  const { words } = tools;
  return h(
    "div",
    { className: "bubble mine" },
    author(words, "you"),
    h("p", { className: "text" }, asking(item, tools)),
    item.sent ? null : h("p", { className: "soft small" }, words("message.unsent")),
  );
}

function pending(item, { words }) {
  return h("div", { className: "bubble theirs pending" }, h("span", { className: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
    h("span", { className: "soft" }, words("message.working")));
}

function insertions(text, item, { words, act }) {
  return h(
    "div",
    { className: "tools", role: "group" },
    button(words("insert.copy"), "copy", () => act.copy(text)),
    button(words("insert.note"), "note", () => act.insert(text, "internal_note", item)),
    button(words("insert.reply"), "reply", () => act.insert(text, "reply", item)),
  );
}

function row(name, value) {
  return value === undefined || value === null || value === "" ? [] : [h("dt", {}, name), h("dd", {}, value)];
}

/** As texts of answers write a moment. */
function short(moment) {
  return String(moment).slice(0, 16).replace("T", " ");
}

function periodText(period) {
  return period ? `${short(period.start)} – ${short(period.end)} ${period.timezone ?? ""}` : "";
}

function listed(title, lines, className = "soft") {
  return lines.length ? [h("p", { className: `${className} small` }, title), h("ul", {}, lines)] : [];
}

/** The text without the line that lists the calls, which the evidence does; what is inserted keeps it. */
function told({ text, evidence: found }) {
  const calls = (found?.calls ?? []).join(", ");
  if (!calls) return text;
  const lines = text.split("\n").filter((line) => !(line.endsWith(`: ${calls}`) && line.length < calls.length + 40));
  return lines.join("\n");
}

/** What the answer stands on, each thing once: what the text says already is not said again. */
function evidence({ evidence: found, model, text }, { words }) {
  if (!found) return null;
  const said = (value) => (value && text.includes(value) ? null : value);
  const { start, end } = found.period ?? {};
  const period = start && text.includes(short(start)) && text.includes(short(end)) ? "" : periodText(found.period);
  const calls = (found.calls ?? []).map((call) => h("li", {}, h("code", {}, call)));
  const unread = (found.unread ?? []).filter((what) => !text.includes(what)).map((what) => h("li", {}, what));
  const sources = (found.sources ?? []).map((source) => h("li", {}, source));
  const rows = [
    ...row(words("evidence.account"), said(found.account)),
    ...row(words("evidence.region"), said(found.region)),
    ...row(words("evidence.period"), period),
    ...row(words("evidence.count"), found.count),
    ...row(words("evidence.model"), model === "embedded" ? null : model), // rules say so in the text
  ];
  if (!rows.length && !calls.length && !unread.length && !sources.length && !found.truncated) return null;
  return h(
    "details",
    { className: "evidence" },
    h("summary", {}, words("evidence.title")),
    rows.length ? h("dl", {}, rows) : null,
    listed(words("evidence.calls"), calls),
    listed(words("evidence.unread"), unread, "warning"),
    listed(words("evidence.sources"), sources),
    found.truncated ? h("p", { className: "warning small" }, words("evidence.truncated")) : null,
  );
}

/** The job that does what was asked, to be started at a press. */
function offer(job, { words, act, language }) {
  if (!["screen", "report"].includes(job?.job) || (job.job === "report" && !/^\d{4}-\d{2}$/.test(job.month))) return null;
  const name = job.job === "report" ? words("month.create", { month: monthName(job.month, language) }) : words("actions.screen");
  return button(name, job.job === "report" ? "chart" : "shield", () => act.start(job), { className: "button primary wide" });
}

function answer(item, tools) {
  return h(
    "div",
    { className: `bubble theirs${item.streaming ? " streaming" : ""}` },
    author(tools.words, "assistant"),
    prose(item.streaming ? item.text : told(item)),
    item.streaming ? null : offer(item.suggests, tools),
    item.streaming ? null : evidence(item, tools),
    item.streaming ? null : insertions(item.text, item, tools),
  );
}

function clarify(item, { words, act }) {
  const choices = (item.choices ?? []).map((choice) =>
    h("button", { type: "button", className: "chip", onclick: () => act.ask(choice) }, choice));
  return h(
    "div",
    { className: "bubble theirs" },
    h("p", { className: "soft small" }, words("message.clarify")),
    h("p", { className: "text" }, item.question),
    choices.length ? h("div", { className: "chips" }, choices) : null,
  );
}

/** Seconds left in the words of the language, coarse: an estimate is no promise. */
function estimate(seconds, words) {
  if (!Number.isFinite(seconds)) return "";
  return seconds < 90
    ? words("progress.eta_seconds", { count: Math.max(5, Math.round(seconds / 5) * 5) })
    : words("progress.eta_minutes", { count: Math.round(seconds / 60) });
}

function progress(item, { words, act, now }) {
  const stage = words(`progress.${item.stage}`);
  const units = item.total ? words("progress.units", { done: item.done ?? 0, total: item.total }) : "";
  const quiet = Math.round((now - item.at) / 1000);
  const percent = Math.round(item.percent);
  const bar = h("div", { className: "bar", role: "progressbar", "aria-label": words("progress.label"), "aria-valuemin": 0,
    "aria-valuemax": 100, "aria-valuenow": percent, "aria-valuetext": `${percent}%, ${stage}` }, h("div", { className: "fill" }));
  bar.firstChild.style.width = `${item.percent}%`;
  return h(
    "div",
    { className: "bubble theirs progress" },
    h("div", { className: "line" }, h("strong", {}, stage), h("span", { className: "number" }, `${percent}%`)),
    bar,
    h("div", { className: "line soft small" }, h("span", {}, [units, item.note].filter(Boolean).join(" · ")), h("span", {}, estimate(item.eta_s, words))),
    quiet >= 10 ? h("p", { className: "soft small" }, words("progress.quiet", { count: quiet })) : null,
    h("div", { className: "tools" }, item.active
      ? button(words("progress.cancel"), "close", () => act.cancel(item.job))
      : h("span", { className: "soft small" }, words("progress.cancelling"))),
  );
}

function report(item, tools) {
  const { words, act, language } = tools;
  const name = words(`report.${item.report}`);
  const counts = ["new", "fixed", "unchanged"].filter((kind) => Number.isInteger(item.counts?.[kind]));
  const until = new Date(item.expires_at);
  return h(
    "div",
    { className: "bubble theirs report" },
    h("div", { className: "line title" }, h("strong", {}, icon("chart"), ` ${name}`), h("span", { className: "soft small" }, item.subtitle ?? "")),
    item.complete === false ? h("p", { className: "warning small" }, words("report.partial")) : null,
    counts.length
      ? h("div", { className: "counts" }, counts.map((kind) => h("span", { className: `count ${kind}` }, h("b", {}, item.counts[kind].toLocaleString(language)), words(`report.${kind}`))))
      : null,
    item.summary ? prose(item.summary) : null,
    button(words("report.open"), "out", () => act.open(item), { className: "button primary" }),
    tools.accepts && item.report === "screening" && item.record
      ? button(words("accept.open"), "check", () => act.accept(item), { className: "button wide" })
      : null,
    insertions(item.summary || name, item, tools),
    Number.isNaN(until.getTime()) ? null : h("p", { className: "soft small" }, words("report.expires", { date: until.toLocaleDateString(language, { dateStyle: "long" }) })),
  );
}

function error(item, { words, act }) {
  const { title, detail, remedy, retryable, code } = item.problem;
  return h(
    "div",
    { className: "bubble theirs error", role: "alert" },
    h("strong", {}, title || words("error.title")),
    detail === title && title ? null : h("p", { className: "text" }, detail || words("error.unknown")),
    remedy ? h("p", { className: "text" }, remedy) : null,
    h("div", { className: "tools" },
      retryable || RETRY.has(code) ? button(words("error.retry"), "clock", () => act.retry(item)) : null,
      code ? h("span", { className: "soft small code" }, code) : null),
  );
}

function cancelled(item, { words }) {
  return h("div", { className: "bubble theirs soft" }, words("message.cancelled"));
}

const KINDS = { question, pending, answer, clarify, progress, report, error, cancelled };

/** One list item of the conversation. */
export function itemElement(item, tools) {
  return h("li", { className: `item ${item.kind}`, "data-key": item.key }, KINDS[item.kind](item, tools));
}

/** Brings `list` (an ol) to show `items`: only what changed is made anew, so that focus and open details stay. */
export function show(list, items, tools) {
  const shown = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let last = null;
  for (const item of items) {
    let element = shown.get(item.key);
    shown.delete(item.key);
    if (element?.item !== item) {
      const made = itemElement(item, tools);
      made.item = item;
      const within = element?.contains(document.activeElement);
      element?.replaceWith(made);
      if (within) made.querySelector("button")?.focus();
      element = made;
    }
    if (last ? last.nextSibling !== element : list.firstChild !== element) last ? last.after(element) : list.prepend(element);
    last = element;
  }
  for (const gone of shown.values()) gone.remove();
}

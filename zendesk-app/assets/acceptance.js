// Accepting what a screening found: which finding, why, and until when. For leads and administrators; the server decides.

import { h, icon } from "./dom.js";

const CHOOSERS = ["lead", "administrator"];
const DAYS = 90; // that are proposed
const MOST_DAYS = 366; // as the server allows

/** Whether somebody of this role may accept findings. */
export function mayAccept(role) {
  return CHOOSERS.includes(role);
}

/** "2026-11-20" so many days from `now`, in Seoul, whose days count. */
function day(now, ahead) {
  return new Intl.DateTimeFormat("en-CA", { timeZone: "Asia/Seoul" }).format(new Date(now.getTime() + ahead * 86_400_000));
}

/** "2026-11-20" as people write it. */
function dayName(date, language) {
  return new Intl.DateTimeFormat(language, { dateStyle: "long", timeZone: "UTC" }).format(new Date(`${date}T00:00:00Z`));
}

let numbered = 0;

function labelled(label, field, hint = null) {
  const id = `accept-${(numbered += 1)}`;
  field.id = id;
  if (hint) field.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { className: "entry" }, h("label", { htmlFor: id }, label), field,
    hint ? h("p", { className: "soft small", id: `${id}-hint` }, hint) : null);
}

function severity(words, name) {
  return words(`accept.severity.${name}`);
}

/** The fields, and `entered()` → what was chosen, or null after pointing at what is missing. */
function fields({ failing, words, now }) {
  const check = h("select", { className: "choice", required: true },
    failing.map((one, index) => h("option", { value: String(index) }, `${severity(words, one.severity)} · ${one.title} (${one.count})`)));
  const resource = h("select", { className: "choice" });
  const reason = h("textarea", { className: "choice", rows: 3, maxLength: 2000, required: true });
  const expires = h("input", { className: "choice", type: "date", required: true, min: day(now, 0), max: day(now, MOST_DAYS), value: day(now, DAYS) });

  function fill() {
    const one = failing[Number(check.value)];
    const name = (each) => [each.name && each.name !== each.uid ? each.name : "", each.uid, each.region].filter(Boolean).join(" · ");
    resource.replaceChildren(h("option", { value: "" }, words("accept.every", { count: one.count })),
      ...one.resources.map((each) => h("option", { value: each.uid }, name(each))));
    if (one.count === 1) resource.selectedIndex = 1;
  }

  check.addEventListener("change", fill);
  reason.addEventListener("input", () => reason.setCustomValidity(reason.value.trim() ? "" : words("accept.reason_missing")));
  reason.setCustomValidity(words("accept.reason_missing"));
  fill();
  const form = h("form", { className: "entries" },
    labelled(words("accept.finding"), check), labelled(words("accept.resource"), resource),
    labelled(words("accept.reason"), reason, words("accept.reason_hint")), labelled(words("accept.until"), expires, words("accept.until_hint")));
  const entered = () => ({ check: failing[Number(check.value)].check, resource: resource.value || null, reason: reason.value.trim(), expires: expires.value });
  return { form, check, entered };
}

/** What is accepted already, each with a way back where the server lets this ticket take it back. */
function kept({ items, words, language, withdraw }) {
  const row = (one) => {
    const back = one.account ? h("button", { type: "button", className: "button", onclick: () => withdraw(one, back) }, icon("back"), h("span", {}, words("accept.withdraw"))) : null;
    const until = words(one.lapsed ? "accept.lapsed" : "accept.accepted_until", { date: dayName(one.expires, language) });
    if (back) back.setAttribute("aria-label", `${words("accept.withdraw")}: ${one.check}`);
    return h("li", {}, h("strong", {}, one.check), h("p", { className: "text" }, one.reason),
      h("p", { className: "soft small" }, [one.resource ?? words("accept.everything"), until].join(" · ")), back);
  };
  return h("section", { className: "accepted", "aria-label": words("accept.now") }, h("h3", {}, words("accept.now")),
    items.length ? h("ul", {}, items.map(row)) : h("p", { className: "soft small" }, words("accept.none")));
}

/**
 * A dialog over the sidebar. `look()` → {failing, accepted}, `accept(what)` and `withdraw(id)` reject where the
 * server does. Escape or the button closes, and focus goes back.
 */
export function openAcceptance({ look, accept, withdraw, words, language, now = () => new Date() }) {
  const before = document.activeElement;
  const close = h("button", { type: "button", className: "button bare", "aria-label": words("accept.close"), onclick: () => dialog.close() }, icon("close"));
  const status = h("p", { className: "made", role: "status" }); // here, for a dialog covers all else
  const body = h("div", { className: "scroller", tabIndex: -1 });
  const dialog = h("dialog", { className: "viewer acceptance", "aria-label": words("accept.title"), "aria-busy": "true" },
    h("div", { className: "line bar-top" }, h("strong", { className: "ellipsis" }, words("accept.title")), close), status, body);

  function refused(error) {
    body.querySelector(".refusal")?.remove();
    body.prepend(h("p", { className: "refusal", role: "alert" }, error.message ?? String(error)));
    body.scrollTop = 0;
  }

  /** One change; what is shown is read anew where it was made, and nothing is pressed twice meanwhile. */
  async function change(button, act, text) {
    button.disabled = true;
    status.textContent = "";
    try {
      await act();
    } catch (error) {
      button.disabled = false;
      refused(error);
      button.focus();
      return;
    }
    status.textContent = text;
    await draw();
  }

  function made(failing) {
    if (!failing.length) return h("p", { className: "soft" }, words("accept.nothing"));
    const { form, check, entered } = fields({ failing, words, now: now() });
    const submit = h("button", { type: "submit", className: "button primary wide" }, icon("check"), h("span", {}, words("accept.submit")));
    form.append(submit);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const what = entered();
      change(submit, () => accept(what), words("accept.done", { date: dayName(what.expires, language) }));
    });
    queueMicrotask(() => check.focus());
    return form;
  }

  async function draw() {
    dialog.setAttribute("aria-busy", "true");
    try {
      const { failing, accepted } = await look();
      body.replaceChildren(h("p", { className: "soft small" }, words("accept.what")), made(failing),
        kept({ items: accepted, words, language, withdraw: (one, button) => change(button, () => withdraw(one.id), words("accept.withdrawn")) }));
      if (!failing.length) close.focus();
    } catch (error) {
      body.replaceChildren();
      refused(error);
    } finally {
      dialog.removeAttribute("aria-busy");
    }
  }

  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  close.focus(); // in Zendesk's frame browsers do not heed autofocus
  draw();
  return dialog;
}

// The question box. Enter sends, unless it belongs to an input method: while Hangul is being composed,
// Enter ends the syllable and must not send half a word.

import { h, icon } from "./dom.js";

export const MOST = 4000;
const WARN = 400;

/** The form; `send(text)` gets what was written. */
export function composer({ words, send }) {
  let composing = false;
  let wanted = false; // Enter was pressed while composing: send when the syllable is done
  const left = h("span", { className: "soft small", "aria-live": "polite" });
  const field = h("textarea", { id: "question", rows: 1, maxLength: MOST, placeholder: words("composer.placeholder"),
    "aria-label": words("composer.label"), "aria-describedby": "composer-hint", autocomplete: "off" });
  const submit = h("button", { type: "submit", className: "button primary send", "aria-label": words("composer.send"), title: words("composer.send"), disabled: true }, icon("send"));

  function changed() {
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight, 140)}px`;
    submit.disabled = !field.value.trim();
    const room = MOST - field.value.length;
    left.textContent = room <= WARN ? words("composer.left", { count: room }) : "";
  }

  function sendNow() {
    const text = field.value.trim();
    if (!text) return;
    field.value = "";
    changed();
    send(text);
  }

  field.addEventListener("input", changed);
  field.addEventListener("compositionstart", () => { composing = true; });
  field.addEventListener("compositionend", () => {
    composing = false;
    if (wanted) setTimeout(sendNow); // after the browser has put the last syllable into the field
    wanted = false;
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    // 229 is what Safari and older input methods say instead of isComposing.
    if (event.isComposing || composing || event.keyCode === 229) wanted = true;
    else sendNow();
  });
  const form = h("form", { className: "composer", onsubmit: (event) => { event.preventDefault(); if (!composing) sendNow(); } },
    h("div", { className: "field" }, field, submit),
    h("div", { className: "line small" }, h("span", { id: "composer-hint", className: "soft" }, words("composer.hint")), left));
  return { form, field };
}

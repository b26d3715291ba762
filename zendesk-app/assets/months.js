// The month picker: a grid of twelve, one year at a time; no month that has not begun.

import { h, icon } from "./dom.js";

const BACK_YEARS = 3;

/** "2026-10" of a Date, in Seoul, where months of reports begin. */
export function monthOf(date) {
  const parts = new Intl.DateTimeFormat("en-CA", { timeZone: "Asia/Seoul", year: "numeric", month: "2-digit" }).formatToParts(date);
  const part = (type) => parts.find((found) => found.type === type).value;
  return `${part("year")}-${part("month")}`;
}

/** "October 2026", "2026년 10월". */
export function monthName(month, language) {
  const [year, number] = month.split("-").map(Number);
  return new Intl.DateTimeFormat(language, { year: "numeric", month: "long", timeZone: "UTC" }).format(new Date(Date.UTC(year, number - 1, 1)));
}

/** The picker as an element; `choose(month)` or `cancel()` is called once. Arrow keys move, Escape cancels. */
export function monthPicker({ now, language, words, choose, cancel }) {
  const current = monthOf(now);
  let [year, number] = current.split("-").map(Number);
  [year, number] = number === 1 ? [year - 1, 12] : [year, number - 1]; // the last complete month
  const lastYear = Number(current.slice(0, 4));
  const heading = h("strong", { "aria-live": "polite" });
  const grid = h("div", { className: "months", role: "radiogroup", "aria-label": words("month.title") });
  const create = h("button", { type: "button", className: "button primary wide", onclick: () => choose(key(number)) });
  const step = (by, picture, label) => h("button", { type: "button", className: "button bare", "aria-label": label, onclick: () => turn(by) }, icon(picture));
  const back = step(-1, "back", words("month.previous"));
  const forward = step(1, "forward", words("month.next"));
  const key = (month) => `${year}-${String(month).padStart(2, "0")}`;
  const open = (month) => key(month) <= current;

  function turn(by) {
    year += by;
    while (!open(number)) number -= 1;
    draw();
  }

  function draw(focus = false) {
    heading.textContent = String(year);
    back.disabled = year <= lastYear - BACK_YEARS;
    forward.disabled = year >= lastYear;
    const short = new Intl.DateTimeFormat(language, { month: "short", timeZone: "UTC" });
    grid.replaceChildren(...Array.from({ length: 12 }, (_, index) => {
      const month = index + 1;
      return h("button", { type: "button", className: "month", role: "radio", "aria-checked": String(month === number), disabled: !open(month),
        tabIndex: month === number ? 0 : -1, "aria-label": monthName(key(month), language), onclick: () => { number = month; draw(true); } },
        short.format(new Date(Date.UTC(2026, index, 1))));
    }));
    create.textContent = words("month.create", { month: monthName(key(number), language) });
    if (focus) grid.children[number - 1].focus();
  }

  grid.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -3, ArrowDown: 3 }[event.key];
    if (!by) return;
    event.preventDefault();
    const wanted = number + by;
    if (wanted >= 1 && wanted <= 12 && open(wanted)) {
      number = wanted;
      draw(true);
    }
  });
  const box = h("section", { className: "panel", "aria-label": words("month.title"), onkeydown: (event) => event.key === "Escape" && cancel() },
    h("div", { className: "line" }, back, heading, forward), grid,
    create, h("button", { type: "button", className: "button bare wide", onclick: cancel }, words("month.cancel")));
  draw();
  queueMicrotask(() => draw(true));
  return box;
}

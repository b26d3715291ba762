// The ticket's AWS account, in the head: told to everybody, and chosen by whoever may where there is a choice.

import { h } from "./dom.js";

const CHOOSERS = ["lead", "administrator"];

/**
 * `element`, and `greeted(hello)` for what the server says after connecting. `look()` → {account, choices},
 * `choose(account)` rejects where that is not allowed, `say(done, text)` tells how it went.
 */
export function ticketAccount({ words, look, choose, say }) {
  const element = h("div", { className: "account soft small" });
  let drawn = "";
  let newest = 0;

  function draw(account, choices, role) {
    const state = JSON.stringify([account, choices, role]);
    if (state === drawn) return; // a select that is being used stays
    drawn = state;
    if (CHOOSERS.includes(role) && choices.length > (account ? 1 : 0)) element.replaceChildren(select(account, choices, role));
    else element.textContent = account ? `${words("account.label")} ${account}` : words(choices.length > 1 ? "account.several" : "account.none");
  }

  function select(account, choices, role) {
    const known = choices.some((choice) => choice.account === account);
    const options = choices.map((choice) => h("option", { value: choice.account, selected: choice.account === account }, `${choice.name} · ${choice.account}`));
    if (!known) options.unshift(h("option", { value: "", disabled: true, selected: true }, account ?? words("account.unchosen")));
    const field = h("select", { className: "choice", onchange: () => chosen(field, account, choices, role) }, options);
    return h("label", { className: "line" }, h("span", {}, words("account.label")), field);
  }

  async function chosen(field, before, choices, role) {
    const account = field.value;
    field.disabled = true;
    const done = choose(account);
    say(done, words("account.chosen", { account }));
    const took = await done.then(() => true, () => false);
    drawn = "";
    draw(took ? account : before, choices, role);
    element.querySelector("select")?.focus();
  }

  async function greeted({ account, role }) {
    const mine = (newest += 1);
    if (account && !CHOOSERS.includes(role)) return draw(account, [], role);
    const found = await look().catch(() => ({ account, choices: [] }));
    if (mine === newest) draw(found.account, found.choices, role);
  }

  return { element, greeted };
}

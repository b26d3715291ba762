// The report viewer: a dialog over the sidebar. The report has no scripts, and the sandbox would run none.

import { h, icon } from "./dom.js";

/** Show the report at `url` (this server's); Escape or the button closes, and focus goes back. */
export function openReport({ url, title, words }) {
  const address = new URL(url, location.origin);
  if (address.origin !== location.origin) throw new Error(words("report.foreign"));
  const before = document.activeElement;
  const close = h("button", { type: "button", className: "button bare", "aria-label": words("report.close") }, icon("close"));
  const frame = h("iframe", { src: address.href, title, sandbox: "allow-popups allow-popups-to-escape-sandbox", referrerPolicy: "no-referrer" });
  const dialog = h(
    "dialog",
    { className: "viewer", "aria-label": title, "aria-busy": "true" },
    h("div", { className: "line bar-top" }, h("strong", { className: "ellipsis" }, title),
      h("a", { className: "button bare", href: address.href, target: "_blank", rel: "noopener", "aria-label": words("report.new_tab"), title: words("report.new_tab") }, icon("out")), close),
    frame,
  );
  frame.addEventListener("load", () => dialog.removeAttribute("aria-busy"));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  close.focus(); // in Zendesk's frame browsers do not heed autofocus
  return dialog;
}

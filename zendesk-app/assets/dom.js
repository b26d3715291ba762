// Elements from data. Strings only ever become text nodes and attributes, so nothing can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element; `props` are properties, on… listeners, or attributes (aria-*, role, data-*). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  send: "M2 14.5 14.5 8 2 1.5v5L9.5 8 2 9.5z",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  note: "M3 2.5h10v8l-3 3H3zM10 13.5v-3h3M5.5 5.5h5M5.5 8h3",
  reply: "M6.5 4 2.5 8l4 4M2.5 8h7a4 4 0 0 1 4 4v1",
  shield: "M8 1.5 13.5 3.500v4c0 3.500-2.300 5.800-5.500 7-3.200-1.200-5.500-3.500-5.500-7v-4zM5.500 8l1.800 1.800 3.200-3.600",
  chart: "M2.500 13.500h11M4.500 11V8M8 11V3.500M11.500 11V6",
  clock: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 4.500V8l2.500 1.500",
  bell: "M3.500 11.500h9l-1-1.500V7a3.500 3.500 0 0 0-7 0v3zM6.800 13.500h2.400",
  list: "M5.500 4h8M5.500 8h8M5.500 12h8M2.500 4h.01M2.500 8h.01M2.500 12h.01",
  close: "m4 4 8 8M12 4l-8 8",
  back: "M10 3.500 5.500 8l4.500 4.500",
  forward: "M6 3.500 10.500 8 6 12.500",
  out: "M6.500 3.500h-4v10h10v-4M9 2.500h4.500V7M13.500 2.500 7.500 8.500",
  check: "m3 8.500 3.500 3.500L13 4.500",
};

/** A small picture beside a label; hidden from screen readers. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 16, height: 16, class: "icon", "aria-hidden": "true" }))
    svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

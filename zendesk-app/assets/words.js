// The words of one language, from translations/<language>.json.

const LANGUAGES = ["en", "ko"];

/** `ko` for any Korean locale, else `en`. */
export function languageOf(locale) {
  const language = String(locale || "").toLowerCase().split(/[-_]/)[0];
  return LANGUAGES.includes(language) ? language : "en";
}

/** The language of what was written: Korean where there is any Hangul, English where there are only other letters. */
export function spokenIn(text, otherwise) {
  if (/[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]/.test(text)) return "ko";
  return /[a-z]{2}/i.test(text) ? "en" : otherwise;
}

/** A function (key, values) → text; a key that is missing is shown as it is, so that tests see it. */
export async function loadWords(language) {
  const response = await fetch(new URL(`../translations/${language}.json`, import.meta.url));
  if (!response.ok) throw new Error(`translations/${language}.json: ${response.status}`);
  const words = await response.json();
  return (key, values = {}) => {
    const found = key.split(".").reduce((node, part) => node?.[part], words);
    if (typeof found !== "string") return key;
    return found.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
  };
}

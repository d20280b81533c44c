/** Languages: chosen by the browser, until the reader chooses another one. */

import { createSignal } from "solid-js";
import { persisted } from "../lib/storage.ts";
import { en } from "./en.ts";
import { zh } from "./zh.ts";

export type Texts = typeof en;
export type Language = "en" | "zh";

const all: Record<Language, Texts> = { en, zh };
export const languages: { id: Language; name: string }[] = [
  { id: "en", name: "English" },
  { id: "zh", name: "简体中文" },
];

function ofBrowser(): Language {
  for (const tag of navigator.languages ?? [navigator.language]) {
    if (/^zh\b/i.test(tag)) return "zh";
    if (/^en\b/i.test(tag)) return "en";
  }
  return "en";
}

const [chosen, setChosen] = persisted<Language | "">("im.language", "", (text) => text === "en" || text === "zh");
const [fallback] = createSignal(ofBrowser());

export const language = (): Language => chosen() || fallback();
export const setLanguage = (to: Language): void => void setChosen(to);

/** The texts in the present language. */
export const t = (): Texts => all[language()];

/** The language tag for dates and numbers: the browser's own one where it is of the same language. */
export function locale(): string {
  const own = (navigator.languages ?? []).find((tag) => tag.toLowerCase().startsWith(language()));
  return own ?? (language() === "zh" ? "zh-CN" : "en");
}

/** Light, dark, or as the system has it. */

import { createEffect } from "solid-js";
import { persisted } from "../lib/storage.ts";

export type Theme = "" | "light" | "dark";

const [theme, setTheme] = persisted<Theme>("im.theme", "", (text) => text === "light" || text === "dark");

export { setTheme, theme };

/** Keeps the page in step with the choice. */
export function followTheme(): void {
  createEffect(() => {
    const chosen = theme();
    if (chosen) document.documentElement.dataset["theme"] = chosen;
    else delete document.documentElement.dataset["theme"];
  });
}

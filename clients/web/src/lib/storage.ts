/** Settings that survive a reload and are the same in all tabs. */

import { type Accessor, createSignal } from "solid-js";

/** Storage may be switched off, full, or emptied: the page works without it. */
export const local = {
  get(key: string): string | null {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  },
  set(key: string, value: string | null): void {
    store(() => localStorage, key, value);
  },
};

/** The same for this tab alone. */
export const ofTab = {
  get(key: string): string | null {
    try {
      return sessionStorage.getItem(key);
    } catch {
      return null;
    }
  },
  set(key: string, value: string | null): void {
    store(() => sessionStorage, key, value);
  },
};

function store(storage: () => Storage, key: string, value: string | null): void {
  try {
    if (value === null) storage().removeItem(key);
    else storage().setItem(key, value);
  } catch {
    // Nothing is lost but the memory of a setting.
  }
}

/** A value in `localStorage` that follows changes in other tabs. Values that `isValid` refuses count as `initial`. */
export function persisted<T extends string>(
  key: string,
  initial: T,
  isValid: (text: string) => boolean,
): [Accessor<T>, (value: T) => void] {
  const read = (text: string | null): T => (text !== null && isValid(text) ? (text as T) : initial);
  const [value, setValue] = createSignal<T>(read(local.get(key)));
  window.addEventListener("storage", (event) => {
    if (event.key === key) setValue(() => read(event.newValue));
  });
  return [
    value,
    (next) => {
      setValue(() => next);
      local.set(key, next);
    },
  ];
}

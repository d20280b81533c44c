/** Random ids. */

/** Hexadecimal digits, the same number of them for each value. */
export const hex = (values: Iterable<number>, digits: number): string =>
  Array.from(values, (value) => value.toString(16).padStart(digits, "0")).join("");

/** 32 hexadecimal digits. Works in pages of any origin, unlike `crypto.randomUUID`. */
export const newId = (): string => hex(crypto.getRandomValues(new Uint8Array(16)), 2);

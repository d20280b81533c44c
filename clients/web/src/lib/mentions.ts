/** Mentions in a text: `@` and a user id, or `@all`. Pure. */

/** Stands for all members, in the protocol. */
export const EVERYONE = "*";
/** How {@link EVERYONE} is written, whatever the language. */
export const ALL = "all";

/** A part of a text: `id` for a mention. */
export interface Piece {
  text: string;
  id?: string;
}

/** An `@` inside of a word, as in an address, begins no mention. */
const BEGIN = /(?<![\p{L}\p{N}_.+-])@/gu;
/** After a mention, the word has to end. */
const GOES_ON = /^(?:[\p{L}\p{N}_]|[-.@+:][\p{L}\p{N}_])/u;

const written = (id: string): string => (id === EVERYONE ? ALL : id);

/** Splits a text at mentions of these users; of several that fit, the longest one counts. */
export function pieces(text: string, ids: readonly string[]): Piece[] {
  const found: Piece[] = [];
  const longest = [...ids].sort((a, b) => written(b).length - written(a).length);
  let end = 0;
  for (const { index } of ids.length > 0 ? text.matchAll(BEGIN) : []) {
    const rest = text.slice(index + 1);
    const id = longest.find((one) => rest.startsWith(written(one)) && !GOES_ON.test(rest.slice(written(one).length)));
    if (id === undefined || index < end) continue;
    if (index > end) found.push({ text: text.slice(end, index) });
    end = index + 1 + written(id).length;
    found.push({ text: text.slice(index, end), id });
  }
  if (end < text.length || found.length === 0) found.push({ text: text.slice(end) });
  return found;
}

/** The users of these that a text mentions, at most 50, as the protocol allows. */
export function mentionsIn(text: string, ids: readonly string[]): string[] {
  const all = new Set(pieces(text, ids).flatMap(({ id }) => (id === undefined ? [] : [id])));
  return all.has(EVERYONE) ? [EVERYONE] : [...all].slice(0, 50);
}

/** The mention that is being typed before `caret`: where its `@` is, and what follows it. */
export function typedMention(text: string, caret: number): { at: number; word: string } | undefined {
  const match = /(?<![\p{L}\p{N}_.+-])@([^\s@]{0,64})$/u.exec(text.slice(0, caret));
  return match ? { at: match.index, word: match[1] ?? "" } : undefined;
}

/** Text of messages and names: links, initials, sizes. Nothing here makes HTML. */

/** A part of a message: plain text, or a link with its address. */
export interface Part {
  text: string;
  href?: string;
}

const LINK =
  /\b(?:https?:\/\/|www\.)[^\s<>"“”‘’「」『』（）【】《》，。；：！？、\u0000-\u001f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gi;
const LINKS_MAX = 100;

/**
 * Splits a message into text and links. Only http and https become links, and only if the browser's own parser takes
 * them; a link ends before white space, quotation marks, CJK punctuation and characters that change the direction.
 */
export function parts(content: string): Part[] {
  const found: Part[] = [];
  let end = 0;
  for (const match of content.matchAll(LINK)) {
    const text = trimmed(match[0]);
    const href = address(text);
    if (href === undefined || found.length > 2 * LINKS_MAX) continue;
    if (match.index > end) found.push({ text: content.slice(end, match.index) });
    found.push({ text, href });
    end = match.index + text.length;
  }
  if (end < content.length || found.length === 0) found.push({ text: content.slice(end) });
  return found;
}

/** Without punctuation at its end that belongs to the sentence, and without a closing bracket that was opened before. */
function trimmed(link: string): string {
  for (;;) {
    const last = link.at(-1) ?? "";
    const isOpened = last === ")" && link.split("(").length >= link.split(")").length;
    if (!/[.,;:!?'*_~)\]}|]/.test(last) || isOpened) return link;
    link = link.slice(0, -1);
  }
}

function address(text: string): string | undefined {
  try {
    const url = new URL(/^www\./i.test(text) ? `https://${text}` : text);
    const isWeb = url.protocol === "https:" || url.protocol === "http:";
    return isWeb && url.hostname.length > 0 && url.username === "" ? url.href : undefined;
  } catch {
    return undefined;
  }
}

const encoder = new TextEncoder();

/** Length in bytes of UTF-8, as the server counts. */
export function bytes(text: string): number {
  return encoder.encode(text).length;
}

const segmenter = typeof Intl.Segmenter === "function" ? new Intl.Segmenter() : undefined;

/** The first characters, as a reader counts them. */
export function graphemes(text: string, most: number): string[] {
  if (!segmenter) return [...text].slice(0, most);
  const found: string[] = [];
  // A segment may be as long as the text: one letter with a thousand accents.
  for (const { segment } of segmenter.segment(text.slice(0, 64 * most))) {
    found.push(segment);
    if (found.length === most) break;
  }
  return found;
}

/** One or two letters that stand for a name. */
export function initials(name: string): string {
  const words = name
    .trim()
    .split(/[\s_\-.@]+/)
    .filter((word) => /[\p{L}\p{N}]/u.test(word));
  const first = words[0] ?? name;
  const [letter = "?"] = graphemes(first, 1);
  // One character of Chinese, Japanese or Korean says as much as two letters.
  if (
    /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Extended_Pictographic}]/u.test(letter)
  ) {
    return letter.slice(0, 16);
  }
  const [second = ""] = words.length > 1 ? graphemes(words.at(-1) ?? "", 1) : [];
  return (letter.slice(0, 4) + second.slice(0, 4)).toLocaleUpperCase();
}

/** A number from 0 to `count - 1` that is the same for the same text. */
export function hashed(text: string, count: number): number {
  let hash = 2166136261;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
  return (hash >>> 0) % count;
}

/** Whether a message is one to three emoji and nothing else: these are shown large. */
export function isEmojiOnly(text: string): boolean {
  if (text.length > 64 || !/\p{Extended_Pictographic}|\p{Regional_Indicator}/u.test(text)) return false;
  const all = graphemes(text.replace(/\s/g, ""), 4);
  const isEmoji =
    /^(?:\p{Regional_Indicator}{2}|[\d#*]\ufe0f?\u20e3|\p{Extended_Pictographic}[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f\u200d\u{e0020}-\u{e007f}]*)$/u;
  return all.length <= 3 && all.every((one) => isEmoji.test(one));
}

/** Whether a text reads from right to left: its first letter decides. */
export function isFromRight(text: string): boolean {
  const [letter = ""] = /\p{L}/u.exec(text) ?? [];
  return /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}]/u.test(
    letter,
  );
}

/** A message in one line, for lists and notifications. */
export function oneLine(text: string, most = 160): string {
  return text
    .slice(0, most * 2)
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, most);
}

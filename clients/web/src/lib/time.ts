/** Times in the reader's zone and language. */

import { locale } from "../i18n/index.ts";

const formats = new Map<string, Intl.DateTimeFormat>();

function format(name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${locale()} ${name}`;
  let found = formats.get(key);
  if (!found) {
    found = new Intl.DateTimeFormat(locale(), options);
    formats.set(key, found);
  }
  return found;
}

/** The day that was asked for last: thousands of messages of one day are looked at in each frame of a busy group. */
const latest = { begin: 0, end: 0 };

/** Midnight of the day of `ms` in the reader's zone. */
export function day(ms: number): number {
  if (ms >= latest.begin && ms < latest.end) return latest.begin;
  const date = new Date(ms);
  const [year, month, dayOfMonth] = [date.getFullYear(), date.getMonth(), date.getDate()];
  latest.begin = new Date(year, month, dayOfMonth).getTime();
  latest.end = new Date(year, month, dayOfMonth + 1).getTime();
  return latest.begin;
}

/** Whole days from the day of `ms` to today; negative in the future. */
function daysAgo(ms: number, now: number): number {
  return Math.round((day(now) - day(ms)) / 86_400_000);
}

/** 14:05 */
export function clock(ms: number): string {
  return format("clock", { hour: "2-digit", minute: "2-digit" }).format(ms);
}

/** The date and time in full, for a tooltip. */
export function full(ms: number): string {
  return format("full", { dateStyle: "full", timeStyle: "medium" }).format(ms);
}

/** The heading of a day: Today, Yesterday, a weekday, or a date. */
export function dayName(ms: number, words: { today: string; yesterday: string }, now = Date.now()): string {
  const ago = daysAgo(ms, now);
  if (ago === 0) return words.today;
  if (ago === 1) return words.yesterday;
  if (ago > 1 && ago < 7) return format("weekday", { weekday: "long" }).format(ms);
  const isThisYear = new Date(ms).getFullYear() === new Date(now).getFullYear();
  const options: Intl.DateTimeFormatOptions = { month: "long", day: "numeric" };
  return isThisYear
    ? format("date", { ...options, weekday: "short" }).format(ms)
    : format("year", { ...options, year: "numeric" }).format(ms);
}

/** The time of a conversation's last message: a time today, then a weekday, then a date. */
export function brief(ms: number, words: { yesterday: string }, now = Date.now()): string {
  const ago = daysAgo(ms, now);
  if (ago === 0) return clock(ms);
  if (ago === 1) return words.yesterday;
  if (ago > 1 && ago < 7) return format("short weekday", { weekday: "short" }).format(ms);
  const isThisYear = new Date(ms).getFullYear() === new Date(now).getFullYear();
  return isThisYear
    ? format("short date", { month: "short", day: "numeric" }).format(ms)
    : format("short year", { year: "numeric", month: "numeric", day: "numeric" }).format(ms);
}

/** Whether `ms` can be shown: `Date` has no times beyond 8.64e15 ms. */
export function isTime(ms: number): boolean {
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15;
}

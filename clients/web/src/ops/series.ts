/** Which lines a chart has, as arrays of values. */

import type { History } from "./history.ts";

export interface Line {
  /** `p50`, a code, a shard or a gateway; `others` for the sum of those that have no line of their own. */
  series: string;
  values: (number | null)[];
  max: number | undefined;
  now: number | undefined;
}

/** Lines of one chart; there are as many colors. */
export const LINES_MAX = 8;

/**
 * The lines of a chart, each with one value per point; null without a value. With `zero`, a missing value at a moment
 * with other values is 0. Beyond `LINES_MAX` series, those with the largest values have a line, and the others share one.
 */
export function lines(history: History, chart: string, order: string[] = [], zero = false): Line[] {
  const all = history.series(chart);
  const place = (name: string): number => (order.includes(name) ? order.indexOf(name) : order.length);
  all.sort((a, b) => place(a) - place(b));
  const found = all.map((series) =>
    line(
      series,
      history.points.map(({ values }) => {
        const value = values.get(`${chart}/${series}`);
        return value ?? (zero && values.size > 0 ? 0 : null);
      }),
    ),
  );
  if (found.length <= LINES_MAX) return found;
  const large = [...found].sort((a, b) => (b.max ?? 0) - (a.max ?? 0)).slice(0, LINES_MAX - 1);
  const others = found.filter((one) => !large.includes(one));
  const sums = history.points.map((_, at) => {
    const values = others.map((one) => one.values[at]).filter((value) => typeof value === "number");
    return values.length > 0 ? values.reduce((total, value) => total + value, 0) : null;
  });
  return [...found.filter((one) => large.includes(one)), line("others", sums)];
}

function line(series: string, values: (number | null)[]): Line {
  const known = values.filter((value) => value !== null);
  const max = known.length > 0 ? known.reduce((most, value) => Math.max(most, value)) : undefined;
  return { series, values, max, now: values.at(-1) ?? undefined };
}

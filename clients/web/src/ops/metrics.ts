/** The text format of Prometheus, as far as the gateways and workers use it. */

export interface Series {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** The series of one process, by their names with labels as they are written. */
export type Metrics = Map<string, Series>;

const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES: Record<string, string> = { n: "\n", '"': '"', "\\": "\\" };

export function parse(text: string): Metrics {
  const metrics: Metrics = new Map();
  for (const line of text.split("\n")) {
    const end = line.lastIndexOf(" ");
    if (end <= 0 || line.startsWith("#")) continue;
    const id = line.slice(0, end);
    const value = number(line.slice(end + 1));
    if (Number.isNaN(value)) continue;
    const brace = id.indexOf("{");
    const labels: Record<string, string> = {};
    if (brace >= 0) {
      for (const [, name = "", text = ""] of id.slice(brace).matchAll(LABEL)) {
        labels[name] = text.replace(/\\(.)/g, (whole, escaped: string) => ESCAPES[escaped] ?? whole);
      }
    }
    metrics.set(id, { name: brace >= 0 ? id.slice(0, brace) : id, labels, value });
  }
  return metrics;
}

function number(text: string): number {
  if (text === "+Inf") return Infinity;
  return text.trim() === "" ? NaN : Number(text);
}

/** All series of a name. */
export function named(metrics: Metrics, name: string): Series[] {
  return [...metrics.values()].filter((series) => series.name === name);
}

/** The sum of all series of a name; undefined without a series. */
export function sum(metrics: Metrics, name: string): number | undefined {
  const all = named(metrics, name);
  return all.length === 0 ? undefined : all.reduce((total, series) => total + series.value, 0);
}

/**
 * How much a counter has risen. It begins at 0 when its process starts, and appears with its first value: a lower value
 * than before is a new beginning.
 */
export function increase(before: number | undefined, now: number): number {
  return before !== undefined && now >= before ? now - before : now;
}

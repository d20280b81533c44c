/** Percentiles from the buckets of histograms, which can be added over processes and over time. */

/** Observations at most as large as each bound, by the bound; the largest one is Infinity. */
export type Buckets = Map<number, number>;

export function add(to: Buckets, buckets: Buckets): void {
  for (const [bound, count] of buckets) to.set(bound, (to.get(bound) ?? 0) + count);
}

/**
 * The value below which this part (0 to 1) of the observations is, as Prometheus estimates it: linear within a bucket, and
 * the last finite bound beyond it. Undefined without observations.
 */
export function quantile(part: number, buckets: Buckets): number | undefined {
  const bounds = [...buckets.keys()].sort((a, b) => a - b);
  const total = buckets.get(bounds.at(-1) ?? NaN) ?? 0;
  if (total <= 0) return undefined;
  const rank = part * total;
  let [lower, below] = [0, 0];
  for (const bound of bounds) {
    const count = buckets.get(bound) ?? 0;
    if (count >= rank && count > below) {
      if (bound === Infinity) return lower;
      return lower + (bound - lower) * ((rank - below) / (count - below));
    }
    [lower, below] = [bound, Math.max(count, below)];
  }
  return lower;
}

/** The sum over the last few samples, so that a percentile rests on more than the observations of one second. */
export class Window {
  #samples: Buckets[] = [];

  constructor(readonly length: number) {}

  add(sample: Buckets): void {
    this.#samples.push(sample);
    if (this.#samples.length > this.length) this.#samples.shift();
  }

  clear(): void {
    this.#samples = [];
  }

  sum(): Buckets {
    const all: Buckets = new Map();
    for (const sample of this.#samples) add(all, sample);
    return all;
  }
}

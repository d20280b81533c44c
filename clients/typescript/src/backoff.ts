/** Delays between attempts. */

import { type Frame, retryAfter } from "./wire.js";

/** Resolves after this many milliseconds. */
export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Delays that grow with each attempt, with a random part, so that clients do not come back at the same moment. */
export class Backoff {
  private attempts = 0;

  constructor(
    private readonly firstMs = 500,
    private readonly mostMs = 30_000,
    private readonly random: () => number = Math.random,
  ) {}

  /** The next delay: between half of and the whole of 500 ms, 1 s, 2 s … 30 s. */
  next(): number {
    const whole = Math.min(this.mostMs, this.firstMs * 2 ** Math.min(this.attempts++, 20));
    return whole * (0.5 + 0.5 * this.random());
  }

  /** A delay that the server asked for, with up to a tenth and 100 ms more. */
  obey(retryAfterMs: number): number {
    return retryAfterMs + this.random() * (retryAfterMs / 10 + 100);
  }

  /** After a success. */
  reset(): void {
    this.attempts = 0;
  }
}

/** The delay after a refusal that may be repeated: the one that the server asks for, or a growing one. */
export function delayOf(frame: Frame, backoff: Backoff): number {
  const after = retryAfter(frame);
  return after === undefined ? backoff.next() : backoff.obey(after);
}

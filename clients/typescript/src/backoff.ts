/** Delays between attempts. */

import { type Frame, retryAfter } from "./wire.js";

/** For failures after which nothing is to be done: the next login begins again. */
export const ignore = (): void => undefined;

/** Resolves after this many milliseconds. */
export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Delays that grow with each attempt, with a random part, so that clients do not come back at the same moment. */
export class Backoff {
  private _attempts = 0;

  constructor(
    private readonly _firstMs = 500,
    private readonly _mostMs = 30_000,
    private readonly _random: () => number = Math.random,
  ) {}

  /** The next delay: between half of and the whole of 500 ms, 1 s, 2 s … 30 s. */
  _next(): number {
    const whole = Math.min(this._mostMs, this._firstMs * 2 ** Math.min(this._attempts++, 20));
    return whole * (0.5 + 0.5 * this._random());
  }

  /** A delay that the server asked for, with up to a tenth and 100 ms more. */
  _obey(retryAfterMs: number): number {
    return retryAfterMs + this._random() * (retryAfterMs / 10 + 100);
  }

  /** After a success. */
  _reset(): void {
    this._attempts = 0;
  }
}

/** The delay after a refusal that may be repeated: the one that the server asks for, or a growing one. */
export function delayOf(frame: Frame, backoff: Backoff): number {
  const after = retryAfter(frame);
  return after === undefined ? backoff._next() : backoff._obey(after);
}

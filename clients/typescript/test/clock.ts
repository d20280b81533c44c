/** Time that passes when the test says so. */

import { mock } from "node:test";

export function fakeClock(): {
  pass(ms: number): Promise<void>;
  until(done: () => boolean, ms?: number): Promise<void>;
} {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  const turn = async () => {
    for (let n = 0; n < 20; n++) await Promise.resolve();
  };
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 5) {
      await turn();
      mock.timers.tick(Math.min(5, left));
    }
    await turn();
  };
  const until = async (done: () => boolean, ms = 600_000) => {
    for (let left = ms; left > 0; left -= 25) {
      await pass(25);
      if (done()) return;
    }
    throw new Error(`not within ${ms} ms`);
  };
  return { pass, until };
}

export const realClock = (): void => mock.timers.reset();

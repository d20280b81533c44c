/** Writes to the store what changed: all of a moment in one step. */

import type { Store } from "./types.js";

/** State of conversations is written this long after a change; a crash costs a pull. */
const WRITE_AFTER_MS = 250;
/** After the store failed. */
const RETRY_AFTER_MS = 5_000;

export class Keeper {
  private dirty = new Map<string, () => unknown>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private writing: Promise<void> | undefined;

  constructor(
    private readonly store: Store,
    private readonly failed: (error: Error) => void,
  ) {}

  /** The record has changed; `value` is asked for when it is written, and undefined removes it. */
  put(key: string, value: () => unknown, now = false): void {
    this.dirty.set(key, value);
    if (now) void this.flush();
    else this.timer ??= setTimeout(() => void this.flush(), WRITE_AFTER_MS);
  }

  /** Writes everything that is not written yet. */
  flush(): Promise<void> {
    this.writing ??= Promise.resolve()
      .then(() => this.run())
      .finally(() => {
        this.writing = undefined;
      });
    return this.writing;
  }

  private async run(): Promise<void> {
    while (this.dirty.size > 0) {
      clearTimeout(this.timer);
      this.timer = undefined;
      const { dirty } = this;
      this.dirty = new Map();
      try {
        await this.store.write(new Map([...dirty].map(([key, value]) => [key, value()])));
      } catch (cause) {
        // What changed meanwhile is newer.
        this.dirty = new Map([...dirty, ...this.dirty]);
        this.failed(new Error("the store could not be written", { cause }));
        this.timer ??= setTimeout(() => void this.flush(), RETRY_AFTER_MS);
        return;
      }
    }
  }
}

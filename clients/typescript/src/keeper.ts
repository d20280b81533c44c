/** Writes to the store what changed: all of a moment in one step. */

import type { Store } from "./types.js";

/** State of conversations is written this long after a change; a crash costs a pull. */
const WRITE_AFTER_MS = 250;
/** After the store failed. */
const RETRY_AFTER_MS = 5_000;

export class Keeper {
  private _dirty = new Map<string, () => unknown>();
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _writing: Promise<void> | undefined;

  constructor(
    private readonly _store: Store,
    private readonly _failed: (error: Error) => void,
  ) {}

  /** The record has changed; `value` is asked for when it is written, and undefined removes it. */
  _put(key: string, value: () => unknown, now = false): void {
    this._dirty.set(key, value);
    if (now) void this._flush();
    else this._timer ??= setTimeout(() => void this._flush(), WRITE_AFTER_MS);
  }

  /** Writes everything that is not written yet. */
  _flush(): Promise<void> {
    this._writing ??= Promise.resolve()
      .then(() => this._run())
      .finally(() => {
        this._writing = undefined;
      });
    return this._writing;
  }

  /** Writes what is not written yet, also while an earlier write is unfinished. Says whether it is written. */
  async _write(): Promise<boolean> {
    clearTimeout(this._timer);
    this._timer = undefined;
    const { _dirty: dirty } = this;
    this._dirty = new Map();
    try {
      if (dirty.size > 0) await this._store.write(new Map([...dirty].map(([key, value]) => [key, value()])));
    } catch (cause) {
      // What changed meanwhile is newer.
      this._dirty = new Map([...dirty, ...this._dirty]);
      this._failed(new Error("the store could not be written", { cause }));
      this._timer ??= setTimeout(() => void this._flush(), RETRY_AFTER_MS);
      return false;
    }
    return true;
  }

  private async _run(): Promise<void> {
    while (this._dirty.size > 0) if (!(await this._write())) return;
  }
}

/** The store in memory. */

import type { Store } from "./types.js";

/** Keeps nothing over a reload; a second client with the same object finds what the first one left. */
export class MemoryStore implements Store {
  private readonly _records = new Map<string, unknown>();

  async load(): Promise<Map<string, unknown>> {
    return new Map([...this._records].map(([key, value]) => [key, structuredClone(value)]));
  }

  async write(records: ReadonlyMap<string, unknown>): Promise<void> {
    for (const [key, value] of records) {
      if (value === undefined) this._records.delete(key);
      else this._records.set(key, structuredClone(value));
    }
  }
}

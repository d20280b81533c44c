/** The store of browsers. */

import { type Tabs, tabsOf } from "./tabs.js";
import type { Store } from "./types.js";

const TABLE = "records";

/** Keeps records in an IndexedDB database of this name. Use one name per user. Tabs with the same name know of each other. */
export class IndexedDbStore implements Store {
  private _db: Promise<IDBDatabase> | undefined;

  constructor(readonly name: string) {}

  tabs(owner: string): Tabs | undefined {
    return tabsOf(this, owner);
  }

  async load(): Promise<Map<string, unknown>> {
    const table = (await this._open()).transaction(TABLE).objectStore(TABLE);
    const [keys, values] = await Promise.all([result(table.getAllKeys()), result(table.getAll())]);
    return new Map(keys.map((key, n) => [String(key), values[n]]));
  }

  async write(records: ReadonlyMap<string, unknown>): Promise<void> {
    const transaction = (await this._open()).transaction(TABLE, "readwrite");
    const table = transaction.objectStore(TABLE);
    try {
      for (const [key, value] of records) {
        if (value === undefined) table.delete(key);
        else table.put(value, key);
      }
      // Now, since a page that ends aborts what has not begun to commit.
      transaction.commit();
    } catch (error) {
      // A value that cannot be stored: the others are not stored either.
      transaction.abort();
      throw error;
    }
    await new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new Error("the transaction was aborted"));
    });
  }

  /** Removes everything, for a logout. Stop the client first. */
  async delete(): Promise<void> {
    if (this._db) (await this._db).close();
    this._db = undefined;
    await result(indexedDB.deleteDatabase(this.name));
  }

  private _open(): Promise<IDBDatabase> {
    this._db ??= this._opened().catch((error) => {
      this._db = undefined;
      throw error;
    });
    return this._db;
  }

  private async _opened(): Promise<IDBDatabase> {
    const request = indexedDB.open(this.name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
    const db = await result(request);
    // Another tab deletes the database, or the browser closes it: the next call opens it again.
    const forget = () => {
      this._db = undefined;
    };
    db.onversionchange = () => {
      db.close();
      forget();
    };
    db.onclose = forget;
    return db;
  }
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB failed"));
  });
}

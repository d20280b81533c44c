/** The few values that the service worker keeps: a browser ends it between two pushes. */

const NAME = "im-notifications";
const STORE = "values";

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function within<T>(mode: IDBTransactionMode, run: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => void opening.result.createObjectStore(STORE);
  const database = await done(opening);
  try {
    return await done(run(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

/** A value, or undefined. A database that fails is as good as an empty one. */
export async function load<T>(key: string): Promise<T | undefined> {
  try {
    return await within<T | undefined>("readonly", (store) => store.get(key));
  } catch {
    return undefined;
  }
}

export async function save(key: string, value: unknown): Promise<void> {
  await within("readwrite", (store) => store.put(value, key)).catch(() => undefined);
}

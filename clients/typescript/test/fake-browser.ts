/** What tabs of one browser share, in memory: locks, channels and a store. */

import { IndexedDbStore, MemoryStore } from "../src/index.js";
import type { Tabs } from "../src/tabs.js";

interface Waiting {
  tab: string;
  run(): Promise<unknown>;
}

type Grant = (lock: { name: string }) => unknown;

/** Locks as of the Web Locks API, as far as the SDK uses them. */
export class FakeLocks {
  private readonly locks = new Map<string, Waiting[]>();

  request(name: string, options: { signal?: AbortSignal }, grant: Grant): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const queue = this.locks.get(name) ?? [];
      this.locks.set(name, queue);
      const next = () => void queue[0]?.run();
      const waiting: Waiting = {
        tab: name,
        run: async () => {
          options.signal?.removeEventListener("abort", abort);
          try {
            resolve(await grant({ name }));
          } catch (error) {
            reject(error);
          } finally {
            queue.shift();
            next();
          }
        },
      };
      const abort = () => {
        queue.splice(queue.indexOf(waiting), 1);
        reject(new Error("aborted"));
      };
      options.signal?.addEventListener("abort", abort);
      queue.push(waiting);
      if (queue.length === 1) Promise.resolve().then(next);
    });
  }

  async query(): Promise<{ held: { name: string }[] }> {
    return { held: [...this.locks].filter(([, queue]) => queue.length > 0).map(([name]) => ({ name })) };
  }
}

const channels = new Set<FakeChannel>();

/** A channel as of the Broadcast Channel API. */
class FakeChannel {
  private readonly listeners: ((event: { data: unknown }) => void)[] = [];

  constructor(readonly name: string) {
    channels.add(this);
  }

  addEventListener(_: string, listener: (event: { data: unknown }) => void): void {
    this.listeners.push(listener);
  }

  postMessage(data: unknown): void {
    if (!channels.has(this)) throw new Error("closed");
    for (const other of channels) {
      if (other === this || other.name !== this.name) continue;
      const copy = structuredClone(data);
      setTimeout(() => {
        if (channels.has(other)) for (const listener of other.listeners) listener({ data: copy });
      }, 1);
    }
  }

  close(): void {
    channels.delete(this);
  }
}

/** A store that tabs share. */
export class NamedStore extends MemoryStore {
  constructor(readonly name: string) {
    super();
  }

  tabs(owner: string): Tabs | undefined {
    return IndexedDbStore.prototype.tabs.call(this as unknown as IndexedDbStore, owner);
  }
}

const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
const { BroadcastChannel: channelBefore } = globalThis;

/** Makes this process a browser, until the returned function is called. */
export function browser(): () => void {
  Object.defineProperty(globalThis, "navigator", { value: { locks: new FakeLocks() }, configurable: true });
  Object.assign(globalThis, { BroadcastChannel: FakeChannel });
  return () => {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else Reflect.deleteProperty(globalThis, "navigator");
    Object.assign(globalThis, { BroadcastChannel: channelBefore });
    channels.clear();
  };
}

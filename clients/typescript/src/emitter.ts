/** Events as listeners and as async iterators. */

import type { AnyEvent, Events } from "./types.js";

/** Events that an iterator's reader may be behind. */
const BEHIND_MAX = 10_000;

type Listener = (event: unknown) => void;

export class Emitter {
  private readonly _listeners = new Map<keyof Events | "*", Set<Listener>>();

  _on<K extends keyof Events>(type: K, listener: (event: Events[K]) => void): () => void {
    return this._add(type, listener as Listener);
  }

  _emit<K extends keyof Events>(type: K, event: Events[K]): void {
    for (const listener of [...(this._listeners.get(type) ?? [])]) call(listener, event);
    for (const listener of [...(this._listeners.get("*") ?? [])]) call(listener, { type, event });
  }

  _iterate(types: readonly (keyof Events)[]): AsyncIterableIterator<AnyEvent> {
    const queue: AnyEvent[] = [];
    let waiting: ((result: IteratorResult<AnyEvent>) => void) | undefined;
    let [ended, behind] = [false, false];
    const remove = this._add("*", (any) => {
      const event = any as AnyEvent;
      if (types.length > 0 && !types.includes(event.type)) return;
      if (waiting) {
        waiting({ value: event, done: false });
        waiting = undefined;
      } else if (queue.length < BEHIND_MAX) queue.push(event);
      else {
        behind = true;
        remove();
      }
    });
    const end = (): IteratorResult<AnyEvent> => ({ value: undefined, done: true });
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: async () => {
        const event = queue.shift();
        if (event) return { value: event, done: false };
        if (behind && !ended) {
          ended = true;
          throw new Error(`the reader was ${BEHIND_MAX} events behind`);
        }
        if (ended) return end();
        return new Promise((resolve) => {
          waiting = resolve;
        });
      },
      return: async () => {
        ended = true;
        remove();
        waiting?.(end());
        return end();
      },
    };
  }

  private _add(type: keyof Events | "*", listener: Listener): () => void {
    const all = this._listeners.get(type) ?? new Set();
    this._listeners.set(type, all.add(listener));
    return () => {
      all.delete(listener);
      if (all.size === 0 && this._listeners.get(type) === all) this._listeners.delete(type);
    };
  }
}

/** A listener that throws does not disturb the client: the error is reported as an uncaught one. */
function call(listener: Listener, event: unknown): void {
  try {
    listener(event);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Addresses of files: asked for together, and kept until shortly before they expire. */

import type { ImClient } from "./client.js";

/** Ids in one call. */
const CALL_MAX = 100;
/** An address is not given any more this long before its end, so that a page has time to load from it. */
const BEFORE_END_MS = 60_000;
/** Addresses in the cache; the oldest go first. */
const CACHED_MAX = 5_000;

/** The whole file, or a small picture of it. */
export type FileSize = "thumb" | "original";

/** An address that needs no header, and works until `expiresAt` (ms since 1970, by the server's clock). */
export interface FileLink {
  readonly url: string;
  readonly expiresAt: number;
}

interface Answer {
  readonly links: readonly { file_id: string; url: string; expires_at: number }[];
}

export class Links {
  private readonly _cache = new Map<string, FileLink>();
  /** What the next call of this size asks for. */
  private readonly _next = new Map<FileSize, { _ids: Set<string>; _done: Promise<void> }>();
  /** Calls that have begun, by file and size. */
  private readonly _asked = new Map<string, Promise<void>>();

  constructor(private readonly _client: Pick<ImClient, "call" | "clockOffset" | "_base">) {}

  async _get(ids: readonly string[], size: FileSize): Promise<Map<string, FileLink>> {
    const missing = ids.filter((id) => !this._peek(id, size));
    await Promise.all(missing.map((id) => this._asked.get(keyOf(id, size)) ?? this._ask(id, size)));
    return new Map(
      ids.flatMap((id) => {
        const link = this._peek(id, size);
        return link ? [[id, link] as const] : [];
      }),
    );
  }

  _peek(id: string, size: FileSize): FileLink | undefined {
    const link = this._cache.get(keyOf(id, size));
    return link && link.expiresAt - BEFORE_END_MS > Date.now() + this._client.clockOffset ? link : undefined;
  }

  _forget(id: string): void {
    for (const size of ["thumb", "original"] as const) this._cache.delete(keyOf(id, size));
  }

  private _ask(id: string, size: FileSize): Promise<void> {
    let next = this._next.get(size);
    if (!next || next._ids.size >= CALL_MAX) {
      const ids = new Set<string>();
      next = {
        _ids: ids,
        _done: new Promise<void>((resolve) => setTimeout(resolve)).then(() => this._call(ids, size)),
      };
      this._next.set(size, next);
    }
    next._ids.add(id);
    const key = keyOf(id, size);
    const { _done: done } = next;
    this._asked.set(key, done);
    const end = (): void => void this._asked.delete(key);
    done.then(end, end);
    return done;
  }

  private async _call(ids: Set<string>, size: FileSize): Promise<void> {
    if (this._next.get(size)?._ids === ids) this._next.delete(size);
    const { links } = await this._client.call<Answer>("POST", "/api/files/links", { file_ids: [...ids], size });
    for (const { file_id: id, url, expires_at: expiresAt } of links) {
      this._cache.delete(keyOf(id, size));
      this._cache.set(keyOf(id, size), { url: new URL(url, this._client._base).href, expiresAt });
    }
    for (const oldest of this._cache.keys()) {
      if (this._cache.size <= CACHED_MAX) break;
      this._cache.delete(oldest);
    }
  }
}

const keyOf = (id: string, size: FileSize): string => `${size} ${id}`;

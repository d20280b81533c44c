/**
 * One upload: whole, or in parts that are sent three at a time. What fails for a moment is repeated, and after a cut only
 * the parts that the server does not have are sent again.
 */

import { Backoff } from "./backoff.js";
import type { ImClient } from "./client.js";
import { segment } from "./http.js";
import { type PutRequest, put } from "./transfer.js";
import { type Attachment, ImError } from "./types.js";

/** Requests with bytes at a time, of all uploads together. */
const REQUESTS_MAX = 3;
/** Addresses of parts that are asked for at once. */
const ADDRESSES = 10;
/** An upload that gets no further for this long fails. */
const GIVE_UP_MS = 600_000;
/** A delay that the server asks for and that an upload waits; beyond it the caller decides. */
const LONGEST_WAIT_MS = 60_000;
/** Times that bytes are sent again because the server refuses their address, or does not have them. */
const REPEATS_MAX = 3;

/** How far an upload is. */
export interface UploadProgress {
  /** Its id, for `resume`. */
  readonly fileId: string;
  /** Bytes that are sent, and all bytes. */
  readonly sent: number;
  readonly size: number;
}

/** What the server answers about an upload. */
export interface UploadState extends Partial<Omit<PutRequest, "url">> {
  readonly file_id: string;
  readonly url?: string | undefined;
  readonly size?: number;
  readonly completed?: boolean;
  readonly part_size?: number;
  readonly part_count?: number;
  readonly received?: readonly number[];
}

/** What uploads use of a client. */
export type Uploader = Pick<ImClient, "call" | "on" | "_base">;

/** Lets a number of requests run at a time. */
export class Slots {
  private _free = REQUESTS_MAX;
  private readonly _waiting: (() => void)[] = [];

  async _run<T>(work: () => Promise<T>): Promise<T> {
    if (this._free > 0) this._free--;
    else await new Promise<void>((resolve) => this._waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this._waiting.shift();
      if (next) next();
      else this._free++;
    }
  }
}

export class Upload {
  private _state: UploadState | undefined;
  /** Bytes that are sent, by the number of their part. */
  private readonly _sent = new Map<number, number>();
  private readonly _backoff = new Backoff();
  /** When the first attempt failed since the last part that arrived. */
  private _failingSince: number | undefined;

  constructor(
    private readonly _client: Uploader,
    private readonly _slots: Slots,
    private readonly _file: Blob,
    private readonly _signal: AbortSignal,
    private readonly _tell: (progress: UploadProgress) => void,
    private readonly _fetcher: typeof fetch | undefined,
  ) {}

  /** Begins a new upload and sends everything. */
  async _begin(request: object): Promise<Attachment> {
    this._state = await this._repeat(() => this._client.call<UploadState>("POST", "/api/uploads", request));
    if (this._signal.aborted) this._drop();
    return this._finish();
  }

  /** Goes on with an upload of an earlier run. */
  async _resume(fileId: string): Promise<Attachment> {
    this._state = await this._look(fileId);
    const { size = this._file.size } = this._state;
    if (size !== this._file.size) throw new ImError(400, `the upload is of another file, of ${size} bytes`);
    return this._finish();
  }

  /** Drops what the server has of it. */
  _drop(): void {
    if (!this._state) return;
    this._client.call("DELETE", this._path()).catch(() => {
      // The server drops it when it expires.
    });
  }

  /** Sends and completes. */
  private async _finish(): Promise<Attachment> {
    for (let attempt = 1; ; attempt++) {
      await this._send();
      try {
        return await this._repeat(() => this._client.call<Attachment>("POST", `${this._path()}/complete`));
      } catch (error) {
        if (attempt > REPEATS_MAX || !(await this._isIncomplete(error))) throw error;
      }
    }
  }

  private async _send(): Promise<void> {
    for (let refusals = 0; !this._state!.completed; ) {
      const failure = await this._sendMissing();
      if (failure === undefined) return;
      // An address that has expired: the next round asks for another one.
      if (codeOf(failure) !== 403 || ++refusals > REPEATS_MAX) await this._wait(failure);
      else this._state = { ...this._state!, url: undefined };
      // A part may have arrived whose answer was lost.
      await this._lookAgain();
    }
  }

  /** Sends the parts that the server does not have. Returns what went wrong first. */
  private async _sendMissing(): Promise<unknown> {
    // A file that is not in parts is one part, whose first address came with the answer to its beginning.
    const { part_size: size = this._file.size, part_count: count = 1, received = [], url } = this._state!;
    const has = new Set(received);
    const bytesOf = (n: number): Blob => this._file.slice((n - 1) * size, n * size);
    const missing: number[] = [];
    for (let n = 1; n <= count; n++) {
      if (has.has(n)) this._sent.set(n, bytesOf(n).size);
      else missing.push(n);
    }
    this._told();
    type Addresses = Promise<{ parts: (PutRequest & { number: number })[] }>;
    const asked = new Map<number, Addresses>();
    const addressOf = async (n: number): Promise<PutRequest> => {
      if (url !== undefined) return this._state as PutRequest;
      let found = asked.get(n);
      if (!found) {
        const numbers = [n, ...missing.slice(0, ADDRESSES - 1)];
        found = this._client.call("POST", `${this._path()}/parts`, { numbers }) as Addresses;
        for (const one of numbers) asked.set(one, found);
      }
      const address = (await found).parts.find(({ number }) => number === n);
      if (!address) throw new ImError(500, `the server gave no address for part ${n}`);
      return address;
    };
    let failure: unknown;
    const work = async (): Promise<void> => {
      for (let n = missing.shift(); n !== undefined && failure === undefined; n = missing.shift()) {
        try {
          await this._put(await addressOf(n), n, bytesOf(n));
        } catch (error) {
          failure ??= error;
        }
      }
    };
    await Promise.all(Array.from({ length: REQUESTS_MAX }, work));
    return failure;
  }

  private _put(to: PutRequest, part: number, bytes: Blob): Promise<void> {
    const request = { ...to, url: new URL(to.url, this._client._base).href };
    const progress = (sent: number): void => {
      this._sent.set(part, sent);
      this._told();
    };
    return this._slots._run(async () => {
      try {
        await put(request, bytes, progress, this._signal, this._fetcher);
        this._failingSince = undefined;
        this._backoff._reset();
      } catch (error) {
        progress(0);
        if (codeOf(error) === 0) await readable(bytes);
        throw error;
      }
    });
  }

  /** Whether a refused completion means that bytes are missing, and the upload is still there. */
  private async _isIncomplete(error: unknown): Promise<boolean> {
    const isInParts = this._state!.part_size !== undefined;
    if (codeOf(error) !== (isInParts ? 400 : 409)) return false;
    try {
      await this._lookAgain();
    } catch {
      return false;
    }
    const { received = [], part_count: count = 1 } = this._state!;
    return received.length < count;
  }

  private async _lookAgain(): Promise<void> {
    this._state = { ...this._state, ...(await this._look(this._state!.file_id)) };
  }

  private _look(fileId: string): Promise<UploadState> {
    return this._repeat(() => this._client.call<UploadState>("GET", `/api/uploads/${segment(fileId)}`));
  }

  private _path(): string {
    return `/api/uploads/${segment(this._state!.file_id)}`;
  }

  private _told(): void {
    if (this._signal.aborted) return;
    let sent = 0;
    for (const bytes of this._sent.values()) sent += bytes;
    this._tell({ fileId: this._state!.file_id, sent, size: this._file.size });
  }

  private async _repeat<T>(run: () => Promise<T>): Promise<T> {
    for (;;) {
      this._signal.throwIfAborted();
      try {
        return await run();
      } catch (error) {
        await this._wait(error);
      }
    }
  }

  /** Waits before the next attempt, or throws what cannot be mended by one. A connection that is back ends the wait. */
  private async _wait(error: unknown): Promise<void> {
    this._signal.throwIfAborted();
    const { retryAfterMs: after } = error as ImError;
    this._failingSince ??= Date.now();
    const isOver = Date.now() - this._failingSince > GIVE_UP_MS || (after ?? 0) > LONGEST_WAIT_MS;
    if (!isTransient(codeOf(error)) || isOver) throw error;
    const delay = after === undefined ? this._backoff._next() : this._backoff._obey(after);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        off();
        this._signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, delay);
      const off = this._client.on("connection", ({ status }) => {
        if (status === "online" && codeOf(error) === 0) done();
      });
      this._signal.addEventListener("abort", done);
    });
    this._signal.throwIfAborted();
  }
}

/** A file that is gone, has changed, or is a folder looks like a lost connection: no attempt can mend it. */
async function readable(bytes: Blob): Promise<void> {
  try {
    await bytes.slice(0, 1).arrayBuffer();
  } catch (cause) {
    throw new ImError(400, `the file cannot be read (${cause})`);
  }
}

const codeOf = (error: unknown): number | undefined => (error instanceof ImError ? error.code : undefined);

const isTransient = (code: number | undefined): boolean =>
  code === 0 || code === 408 || code === 429 || (code !== undefined && code >= 500);

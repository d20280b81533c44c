/** Calls over HTTP: who calls, errors, and what may be repeated. */

import { sleep } from "./backoff.js";
import type { Tokens } from "./tokens.js";
import { ImError } from "./types.js";

/** Values for the query string; those that are undefined are left out. */
export type Query = Record<string, string | number | boolean | undefined>;

/** Attempts of one call. */
const ATTEMPTS = 4;
/** A delay that the server asks for and that a call waits; beyond it the caller decides. */
const LONGEST_WAIT_MS = 10_000;
/** No call takes the server longer than 5 s. */
const TIMEOUT_MS = 15_000;

/**
 * Calls the server. 429 is repeated after the server's delay, 503 and a lost connection only for methods that may be done
 * twice, and 401 once with a new token.
 */
export class Http {
  constructor(
    private readonly _base: () => string,
    private readonly _fetcher: typeof fetch,
    /** Who calls: the user of a token, or the one that is named. Neither: nobody. */
    private readonly _tokens?: Tokens | undefined,
    private readonly _userId?: string | undefined,
  ) {}

  /** One call; `path` begins with `/api`. Throws {@link ImError}. */
  async _call<T>(method: string, path: string, body?: unknown, query: Query = {}): Promise<T> {
    let fresh = false;
    for (let attempt = 1; ; attempt++) {
      try {
        return (await this._once(method, path, body, query, fresh)) as T;
      } catch (error) {
        if (!(error instanceof ImError) || attempt >= ATTEMPTS) throw error;
        const wait = error.retryAfterMs ?? 250 * 2 ** attempt;
        if (error.code === 401 && !fresh && this._tokens) fresh = true;
        else if (wait <= LONGEST_WAIT_MS && mayRepeat(method, error.code)) await sleep(wait + Math.random() * 250);
        else throw error;
      }
    }
  }

  private async _once(method: string, path: string, body: unknown, query: Query, fresh: boolean): Promise<unknown> {
    const url = new URL(this._base() + path);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = {};
    if (this._userId !== undefined) url.searchParams.set("user_id", this._userId);
    if (this._tokens) headers["Authorization"] = `Bearer ${(await this._tokens._get(fresh)) ?? ""}`;
    const init: RequestInit = { method, headers, signal: AbortSignal.timeout(TIMEOUT_MS) };
    if (body !== undefined) {
      headers["Content-Type"] = "application/json";
      init.body = JSON.stringify(body);
    }
    let response: Response;
    let text: string;
    try {
      response = await this._fetcher(url.href, init);
      text = await response.text();
    } catch (cause) {
      throw new ImError(0, `${method} ${path}: the server was not reached (${cause})`);
    }
    const answer = parse(text);
    if (response.ok && answer !== undefined) return answer;
    const { message, retry_after_ms: after } = (answer ?? {}) as { message?: string; retry_after_ms?: number };
    throw new ImError(response.status, message ?? `${method} ${path}: status ${response.status}`, after);
  }
}

function mayRepeat(method: string, code: number): boolean {
  return code === 429 || ((code === 503 || code === 0) && method === "GET");
}

function parse(text: string): unknown {
  if (text === "") return {};
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The global `fetch` of the moment of the call. */
export const globalFetch: typeof fetch = (input, init) => fetch(input, init);

/** One segment of a path. */
export const segment = encodeURIComponent;

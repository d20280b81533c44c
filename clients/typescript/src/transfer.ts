/** One request that carries bytes: with progress where the platform has it. */

import { globalFetch } from "./http.js";
import { ImError } from "./types.js";

/** Where bytes go, as the server says it. */
export interface PutRequest {
  readonly method: string;
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Without progress for this long, a connection counts as lost: browsers notice it late, or never. */
const STALLED_MS = 30_000;
/** Without progress events the whole request has this long, and a second more for each 20 KB. */
const SHORTEST_MS = 60_000;
const BYTES_PER_MS = 20;

/**
 * Sends the bytes. The address is signed: it gets the given headers and no token, since it may be of another host. Rejects
 * with {@link ImError}, code 0 if the connection was lost, or with the reason of the signal.
 */
export async function put(
  to: PutRequest,
  body: Blob,
  progress: (bytes: number) => void,
  signal: AbortSignal,
  fetcher?: typeof fetch,
): Promise<void> {
  signal.throwIfAborted();
  const { status, text } =
    fetcher || typeof XMLHttpRequest === "undefined"
      ? await byFetch(to, body, signal, fetcher ?? globalFetch)
      : await byXhr(to, body, progress, signal);
  if (status < 200 || status > 299) throw refused(status, text);
  progress(body.size);
}

interface Answer {
  status: number;
  text: string;
}

async function byFetch(to: PutRequest, body: Blob, signal: AbortSignal, fetcher: typeof fetch): Promise<Answer> {
  const limit = AbortSignal.timeout(SHORTEST_MS + Math.ceil(body.size / BYTES_PER_MS));
  try {
    const response = await fetcher(to.url, {
      method: to.method,
      headers: to.headers ?? {},
      body,
      credentials: "omit",
      signal: AbortSignal.any([signal, limit]),
    });
    return { status: response.status, text: await response.text() };
  } catch (cause) {
    signal.throwIfAborted();
    throw lost(cause);
  }
}

function byXhr(to: PutRequest, body: Blob, progress: (bytes: number) => void, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer: ReturnType<typeof setTimeout>;
    const watch = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => end(() => reject(lost("no progress"))), STALLED_MS);
    };
    const stop = (): void => end(() => reject(signal.reason));
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      settle();
      request.abort();
    };
    request.upload.onprogress = ({ loaded }) => {
      watch();
      progress(Math.min(loaded, body.size));
    };
    request.onload = () => end(() => resolve({ status: request.status, text: request.responseText }));
    request.onerror = () => end(() => reject(lost("network error")));
    signal.addEventListener("abort", stop);
    request.open(to.method, to.url);
    for (const [name, value] of Object.entries(to.headers ?? {})) {
      // Browsers set it themselves, and refuse it from a page.
      if (name.toLowerCase() !== "content-length") request.setRequestHeader(name, value);
    }
    watch();
    request.send(body);
  });
}

const lost = (cause: unknown): ImError => new ImError(0, `the connection was lost during the upload (${cause})`);

/** The server's sentence, if it is one of this server: a store of another kind answers with XML. */
function refused(status: number, text: string): ImError {
  let answer: { message?: string; retry_after_ms?: number } = {};
  try {
    answer = JSON.parse(text);
  } catch {
    // The status has to do.
  }
  return new ImError(status, answer.message ?? `the upload was refused with status ${status}`, answer.retry_after_ms);
}

/** What a closed connection means: the protocol's table of close codes. Pure. */

/** What to do next. */
export type AfterClose =
  /** Reconnect after a growing delay. */
  | { readonly action: "backoff" }
  /** Reconnect after the delay that the server names. */
  | { readonly action: "wait"; readonly ms: number }
  /** Reconnect with a new token. */
  | { readonly action: "token" }
  /** Reconnecting is of no use. */
  | { readonly action: "stop" };

/** 1002, 1007 and 4400: mend the client. 4403: the operator allows it. 4409, 4429: newer connections are there. */
const STOPS = new Set([1002, 1007, 4400, 4403, 4409, 4429]);

export function afterClose(code: number, reason: string): AfterClose {
  if (STOPS.has(code)) return { action: "stop" };
  if (code === 4401 || code === 4402) return { action: "token" };
  const ms = /retry_after_ms=(\d+)/.exec(reason)?.[1];
  return ms === undefined ? { action: "backoff" } : { action: "wait", ms: Number(ms) };
}

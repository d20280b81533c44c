/** The calls to the gateway. */

import type { Report } from "./history.ts";

export type Fetched =
  | { kind: "report"; report: Report }
  /** The key is not the operator's. */
  | { kind: "refused" }
  /** The gateway answers with an error, in its own words. */
  | { kind: "error"; status: number; message: string }
  /** There is no answer. */
  | { kind: "away" };

const TIMEOUT_MS = 8_000;

export async function fetchReport(key: string): Promise<Fetched> {
  let response: Response;
  let text: string;
  try {
    response = await fetch("/api/admin/processes", {
      headers: { "X-Api-Key": key },
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    text = await response.text();
  } catch {
    return { kind: "away" };
  }
  if (response.status === 401 || response.status === 403) return { kind: "refused" };
  const body = parsed(text);
  if (response.ok && isReport(body)) return { kind: "report", report: body };
  const message = isObject(body) && typeof body.message === "string" ? body.message : response.statusText;
  return { kind: "error", status: response.status, message };
}

/** Whether the browser can send this text in a header. Keys have only printable characters of ASCII. */
export function isKey(text: string): boolean {
  return /^[\x20-\x7e]+$/.test(text);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isReport(value: unknown): value is Report {
  return isObject(value) && typeof value.time_ms === "number" && Array.isArray(value.processes);
}

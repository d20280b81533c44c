/** Who uses the page: a demo name, or a token. Nothing of it is ever part of an address. */

import { createSignal } from "solid-js";
import { local, ofTab } from "../lib/storage.ts";

export interface Session {
  userId: string;
  /** Absent for a demo name. */
  token?: string;
  /** The token is of an account with a password; otherwise it was pasted. */
  account?: boolean;
  /** Kept in `localStorage`, for all tabs and after the browser was closed; otherwise for this tab alone. */
  stay?: boolean;
}

const KEY = "im.session";

function parse(text: string | null): Session | undefined {
  try {
    const found = JSON.parse(text ?? "null") as Session | null;
    return found && typeof found.userId === "string" ? found : undefined;
  } catch {
    return undefined;
  }
}

const [session, setSession] = createSignal<Session | undefined>(parse(ofTab.get(KEY)) ?? parse(local.get(KEY)));
const [endedElsewhere, setEndedElsewhere] = createSignal(false);

export { endedElsewhere, session };

/** Begins a session, or goes on with a new token. */
export function setSessionTo(next: Session): void {
  const text = JSON.stringify(next);
  ofTab.set(KEY, next.stay ? null : text);
  if (next.stay) local.set(KEY, text);
  setEndedElsewhere(false);
  setSession(next);
}

/** Forgets the session, in all tabs that share it. */
export function endSession(): void {
  const old = session();
  ofTab.set(KEY, null);
  if (old?.stay) local.set(KEY, null);
  setSession(undefined);
}

window.addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  const [own, next] = [session(), parse(event.newValue)];
  if (own && !own.stay) return;
  if (own && !next) setEndedElsewhere(true);
  if (own?.userId !== next?.userId || own?.token !== next?.token) setSession(next);
});

/** What a token says about itself. Only the server decides whether it is true. */
export function claims(token: string): { sub: string; exp: number } | undefined {
  try {
    const part = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    const found = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown; exp?: unknown };
    return typeof found.sub === "string" && typeof found.exp === "number"
      ? { sub: found.sub, exp: found.exp * 1000 }
      : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a user id has the form that the protocol asks for. */
export function isUserId(text: string): boolean {
  return /^[^\p{C}\s{}]{1,64}$/u.test(text);
}

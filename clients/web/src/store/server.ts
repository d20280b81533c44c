/** What the server offers: `GET /api`. */

import { createSignal, onCleanup } from "solid-js";

export interface ServerInfo {
  version?: string;
  features?: string[];
  limits?: { content_bytes?: number };
  auth?: { insecure?: boolean; accounts?: boolean };
}

/** The state of the question: an answer, or why there is none yet. */
export type ServerState =
  | { info: ServerInfo }
  | { waiting: "first" | "unreachable" }
  | { waiting: "refused"; status: number };

/** Asks until there is an answer. A server that does not know the call is taken to offer everything. */
export function askServer(): () => ServerState {
  const [state, setState] = createSignal<ServerState>({ waiting: "first" });
  let timer: ReturnType<typeof setTimeout> | undefined;
  let wait = 500;
  const ask = async (): Promise<void> => {
    try {
      const response = await fetch("/api", { signal: AbortSignal.timeout(10_000), cache: "no-store" });
      if (response.ok) return void setState({ info: (await response.json()) as ServerInfo });
      if (response.status === 404) return void setState({ info: {} });
      setState({ waiting: "refused", status: response.status });
    } catch {
      setState({ waiting: "unreachable" });
    }
    wait = Math.min(wait * 2, 8_000);
    timer = setTimeout(() => void ask(), wait * (0.75 + Math.random() / 2));
  };
  void ask();
  onCleanup(() => clearTimeout(timer));
  return state;
}

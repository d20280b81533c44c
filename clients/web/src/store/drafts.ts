/**
 * What was typed and not sent yet, per user and conversation. It survives a reload and the end of a session, and is the
 * same on all devices where the server keeps settings.
 *
 * Each draft has a base: what the server is known to have. A text that differs from it was typed here and is sent; one
 * that is the same follows the server.
 */

import type { Conversation, ImClient } from "im-client";
import { createSignal } from "solid-js";
import { local } from "../lib/storage.ts";
import { bytes } from "../lib/text.ts";

/** Conversations with a draft that are kept; the oldest go first. */
const KEPT_MAX = 50;
/** The pause after which what was typed is stored here, and sent to the server. */
const WRITE_MS = 300;
const SYNC_MS = 1_000;
/** The longest draft that the server takes, in bytes; longer ones stay here. */
const DRAFT_MAX = 4_096;

interface Draft {
  text: string;
  base: string;
}

export class Drafts {
  private readonly drafts: Map<string, Draft>;
  private readonly signal = createSignal(0);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly waiting = new Map<string, ReturnType<typeof setTimeout>>();
  /** Of these, the text is on its way to the server. */
  private readonly sending = new Set<string>();
  /** Of these, the server takes no draft. */
  private readonly refused = new Set<string>();

  constructor(
    private readonly userId: string,
    private readonly client: ImClient,
  ) {
    this.drafts = new Map(this.read());
  }

  get(conversation: string): string {
    this.signal[0]();
    return this.drafts.get(conversation)?.text ?? "";
  }

  set(conversation: string, text: string): void {
    this.put(conversation, { text, base: this.drafts.get(conversation)?.base ?? "" });
    this.syncSoon(conversation);
  }

  /** Takes over what the server has. */
  follow(conversation: Conversation): void {
    if (this.sending.has(conversation.id) || this.refused.has(conversation.id)) return;
    const found = this.drafts.get(conversation.id) ?? { text: "", base: "" };
    const remote = conversation.settings.draft ?? "";
    if (remote === found.base) return;
    // What is being typed here stays, and is what counts.
    this.put(conversation.id, { text: found.text === found.base ? remote : found.text, base: remote });
  }

  /** Sends all that the server does not have: after a reconnect. */
  syncAll(): void {
    for (const [id, { text, base }] of this.drafts) if (text !== base) this.sync(id);
  }

  /** Sends a draft at once. */
  sync(id: string): void {
    clearTimeout(this.waiting.get(id));
    this.waiting.delete(id);
    const draft = this.drafts.get(id);
    if (!draft || draft.text === draft.base || this.sending.has(id) || this.refused.has(id)) return;
    const { text } = draft;
    const { features, connection } = this.client;
    if (!features.has("settings") || connection.status !== "online" || bytes(text) > DRAFT_MAX) return;
    this.sending.add(id);
    this.client
      .conversation(id)
      .configure({ draft: text || null })
      .then(
        () => {
          this.sending.delete(id);
          const now = this.drafts.get(id);
          if (!now) return;
          this.put(id, { text: now.text, base: text });
          if (now.text !== text) this.syncSoon(id);
        },
        ({ code = 0 }: { code?: number }) => {
          this.sending.delete(id);
          // The draft stays here. After other errors the next change or reconnect tries again.
          if (code >= 400 && code < 413) this.refused.add(id);
        },
      );
  }

  /** Writes at once: before the page goes away. */
  write(): void {
    clearTimeout(this.timer);
    const kept = [...this.drafts].map(([id, { text, base }]) => [id, text, base]);
    local.set(this.key(), kept.length > 0 ? JSON.stringify(kept) : null);
  }

  /** Sends and writes at once. */
  leave(): void {
    for (const id of [...this.waiting.keys()]) this.sync(id);
    this.write();
  }

  forget(): void {
    for (const timer of this.waiting.values()) clearTimeout(timer);
    this.drafts.clear();
    this.write();
  }

  private put(id: string, draft: Draft): void {
    this.drafts.delete(id);
    // A base without a text: the server has still to forget it.
    if (draft.text || draft.base) this.drafts.set(id, draft);
    for (const oldest of this.drafts.keys()) {
      if (this.drafts.size <= KEPT_MAX) break;
      this.drafts.delete(oldest);
    }
    this.signal[1]((n) => n + 1);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(), WRITE_MS);
  }

  private syncSoon(id: string): void {
    clearTimeout(this.waiting.get(id));
    this.waiting.set(
      id,
      setTimeout(() => this.sync(id), SYNC_MS),
    );
  }

  private key(): string {
    return `im.drafts.${this.userId}`;
  }

  private read(): [string, Draft][] {
    try {
      const found: unknown = JSON.parse(local.get(this.key()) ?? "[]");
      if (!Array.isArray(found)) return [];
      return (found as [string, string, string?][]).map(([id, text, base = ""]) => [id, { text, base }]);
    } catch {
      return [];
    }
  }
}

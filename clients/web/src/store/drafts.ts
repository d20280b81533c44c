/** What was typed and not sent yet, per user and conversation. It survives a reload and the end of a session. */

import { createSignal } from "solid-js";
import { local } from "../lib/storage.ts";

/** Conversations with a draft that are kept; the oldest go first. */
const KEPT_MAX = 50;

export class Drafts {
  private readonly texts: Map<string, string>;
  private readonly signal = createSignal(0);
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly userId: string) {
    this.texts = new Map(this.read());
  }

  get(conversation: string): string {
    this.signal[0]();
    return this.texts.get(conversation) ?? "";
  }

  set(conversation: string, text: string): void {
    this.texts.delete(conversation);
    if (text) this.texts.set(conversation, text);
    for (const oldest of this.texts.keys()) {
      if (this.texts.size <= KEPT_MAX) break;
      this.texts.delete(oldest);
    }
    this.signal[1]((n) => n + 1);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(), 300);
  }

  /** Writes at once: before the page goes away. */
  write(): void {
    clearTimeout(this.timer);
    local.set(this.key(), this.texts.size > 0 ? JSON.stringify([...this.texts]) : null);
  }

  forget(): void {
    this.texts.clear();
    this.write();
  }

  private key(): string {
    return `im.drafts.${this.userId}`;
  }

  private read(): [string, string][] {
    try {
      const found: unknown = JSON.parse(local.get(this.key()) ?? "[]");
      return Array.isArray(found) ? (found as [string, string][]) : [];
    } catch {
      return [];
    }
  }
}

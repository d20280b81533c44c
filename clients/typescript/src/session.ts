/** What the parts of a client share. */

import type { ConversationState } from "./conversation.js";
import type { Emitter } from "./emitter.js";
import type { OutboxItem } from "./outbox.js";
import type { Frame, Request } from "./wire.js";

/** Options with their defaults. */
export interface Limits {
  readonly pageSize: number;
  readonly windowMax: number;
  readonly storedMax: number;
  readonly follow: boolean;
}

/** A user's state in this tab, and its connection. */
export interface Session {
  /** The user. */
  readonly me: string;
  /** This tab, as the owner of what it sends. */
  readonly owner: string;
  readonly limits: Limits;
  readonly emitter: Emitter;
  readonly online: boolean;
  /** All conversations that are known or were asked for. */
  readonly conversations: Map<string, ConversationState>;
  get(id: string, peer?: string): ConversationState;
  request(request: Request, conversation?: ConversationState): Promise<Frame>;
  /** Resolves when online, rejects when the client is stopped. */
  untilOnline(): Promise<void>;
  /** Rises with each new message: the order of the list. */
  nextTouch(): number;
  /** Something to show and to keep changed. */
  changed(conversation: ConversationState, messages: boolean, info: boolean): void;
  /** Keeps an outbox item; or removes it. */
  keepItem(item: OutboxItem, keep: boolean): void;
}

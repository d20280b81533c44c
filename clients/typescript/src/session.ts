/** What the parts of a client share. */

import type { ConversationState } from "./conversation.js";
import type { Emitter } from "./emitter.js";
import type { Query } from "./http.js";
import type { OutboxItem } from "./outbox.js";
import type { Frame, Request } from "./wire.js";

/** Options with their defaults. */
export interface Limits {
  readonly _pageSize: number;
  readonly _windowMax: number;
  readonly _storedMax: number;
  readonly _follow: boolean;
}

/** A user's state in this tab, and its connection. */
export interface Session {
  /** The user. */
  readonly userId: string;
  /** This tab, as the owner of what it sends. */
  readonly _owner: string;
  readonly _limits: Limits;
  readonly _emitter: Emitter;
  readonly _online: boolean;
  /** All conversations that are known or were asked for. */
  readonly _known: Map<string, ConversationState>;
  _get(id: string, peer?: string): ConversationState;
  /** Sends a request when online; `conversationId` is what the reply names, for requests with `to`. */
  _request(request: Request, conversationId?: string): Promise<Frame>;
  /** A call over HTTP. */
  call<T>(method: string, path: string, body?: unknown, query?: Query): Promise<T>;
  /** Resolves when online, rejects when the client is stopped. */
  _untilOnline(): Promise<void>;
  /** Rises with each new message: the order of the list. */
  _nextTouch(): number;
  /** Something to show and to keep changed. */
  _changed(conversation: ConversationState, messages: boolean, info: boolean): void;
  /** Keeps an outbox item; or removes it. */
  _keepItem(item: OutboxItem, keep: boolean): void;
}

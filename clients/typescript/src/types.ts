/** Public types of the SDK. The wire format is in `wire.ts`; both follow `docs/protocol.md`. */

import type { Tabs } from "./tabs.js";

/** What a message is: 1 text, 2 image, 7 file, 8 system, 100 to 255 of the app. Types 3 to 6 change other messages. */
export const MsgType = {
  Text: 1,
  Image: 2,
  Recall: 3,
  Edit: 4,
  Reaction: 5,
  Pin: 6,
  File: 7,
  System: 8,
} as const;

/**
 * How far a message has come.
 *
 * - `sending`: in the outbox; it is sent, and sent again with the same `msgId`, until the server answers.
 * - `accepted`: the server has promised to store it (code 0). It keeps its place after all stored messages.
 * - `stored`: it is in the conversation at its final `seq`.
 * - `failed`: the server refused it, at once or by a second answer. `error` says why. It stays in the list until
 *   `retry` or `discard`.
 */
export type MessageState = "sending" | "accepted" | "stored" | "failed";

/** Why the server refused something. */
export interface Refusal {
  /** As in the protocol's table of errors: 400, 401, 403, 404, 409, 413, 429, 500, 503. 0: the server was not reached. */
  readonly code: number;
  /** A sentence that says what was wrong and how to mend it. */
  readonly message: string;
}

/** One reaction and the users who gave it, at most 20 of them by name. */
export interface Reaction {
  readonly reaction: string;
  readonly count: number;
  readonly user_ids: readonly string[];
}

/** A file of a message, with the attributes that the server found in it. */
export interface Attachment {
  readonly file_id: string;
  readonly name?: string;
  readonly size?: number;
  readonly content_type?: string;
  readonly width?: number;
  readonly height?: number;
  readonly thumbhash?: string;
}

/** A message as it is shown. Immutable: a change makes a new object, so that views compare by identity. */
export interface Message {
  /** Stable from the local echo to the stored message: sender and `msgId`. Use it as the key of a list. */
  readonly key: string;
  readonly conversationId: string;
  readonly msgId: string;
  /** Position in the conversation; 0 while the server has not answered. */
  readonly seq: number;
  readonly senderId: string;
  /** True for messages of this client's user, whatever the device. */
  readonly mine: boolean;
  /** Empty if recalled. */
  readonly content: string;
  /** See {@link MsgType}. Show nothing, or a placeholder, for types that you do not know. */
  readonly msgType: number;
  /** Milliseconds since 1970, by the sender's clock. Never sort by it: messages are in the order of `seq`. */
  readonly sendTime: number;
  readonly state: MessageState;
  readonly recalled: boolean;
  /** For `failed`: why. */
  readonly error?: Refusal;
  /** The server knows this `msgId` with another content, which stays. */
  readonly contentDiffers?: boolean;
  readonly editedAt?: number;
  readonly meta?: unknown;
  readonly replyTo?: number;
  readonly mentions?: readonly string[];
  readonly attachments?: readonly Attachment[];
  readonly reactions?: readonly Reaction[];
  /** Changes up to this sequence number are in it, where that is known: those of later entries are applied to it. */
  readonly upTo?: number;
}

/** A user's own settings of a conversation: those that are not at their default. */
export interface ConversationSettings {
  /** The end of the mute in ms since 1970; -1 for a mute without an end. */
  readonly muted_until?: number;
  readonly pinned?: boolean;
  readonly archived?: boolean;
  /** Until it is read again, on any device. */
  readonly marked_unread?: boolean;
  /** What was typed and not sent. */
  readonly draft?: string;
}

/** Changes of them: 0, false and null lead back to the default. */
export interface ConversationChanges extends Omit<ConversationSettings, "draft"> {
  readonly draft?: string | null;
}

/** What is sent. A bare string is a text. */
export interface Draft {
  /** 1 to 4,096 bytes of UTF-8. */
  content?: string;
  /** Default: text. */
  msgType?: number;
  /** Default: a random one. The same id is the same message: give one only to repeat a message of an earlier run. */
  msgId?: string;
  /** A JSON object of the app's own, at most 2,048 bytes. */
  meta?: unknown;
  replyTo?: number;
  mentions?: readonly string[];
  attachments?: readonly Attachment[];
}

/** A message that was handed to `send`. */
export interface Sent {
  /** The local echo, in state `sending`. */
  readonly message: Message;
  /** Resolves with code 0, rejects with {@link ImError} when the message is refused. */
  accepted(): Promise<Message>;
  /** Resolves when the message is in the conversation, rejects with {@link ImError} when it is refused. */
  stored(): Promise<Message>;
}

/**
 * State of the connection.
 *
 * - `idle`: before `start`, and after `stop`.
 * - `connecting`: the first attempt, or one after a loss. `waiting`: until the next attempt.
 * - `online`: logged in. The client syncs at once; see `synced`.
 * - `stopped`: the server said that reconnecting is of no use; `reason` says why.
 */
export interface ConnectionState {
  readonly status: "idle" | "connecting" | "waiting" | "online" | "stopped";
  /** True when everything that was missed is applied. */
  readonly synced: boolean;
  /** For `waiting`: when the next attempt begins, in milliseconds since 1970. */
  readonly retryAt?: number;
  /** For `stopped` and `waiting`: close code and sentence of the server, as far as it gave them. */
  readonly reason?: Refusal;
}

/** What changed since the last `change` event. Coalesced: one event per turn of the scheduler, however many messages came. */
export interface Change {
  /** Conversations of which anything changed, with what changed. */
  readonly conversations: ReadonlyMap<string, ConversationChange>;
  /** `client.conversations` is another array: its order, its set, or what an entry shows changed. */
  readonly list: boolean;
}

/** What changed in one conversation. */
export interface ConversationChange {
  /** `messages` is another array. */
  readonly messages: boolean;
  /** Unread count, read positions, last message, peer, or membership changed. */
  readonly info: boolean;
}

/** Events by name. */
export interface Events {
  /** Something to show changed. For views: read what you show again. */
  change: Change;
  /**
   * New messages of one conversation, rising, once each, also those that were missed while offline. Messages of the
   * own user are among them when they are stored. History that is loaded for the first time is not. After a crash, what
   * came less than a moment before it may be told again.
   */
  messages: { readonly conversation: Conversation; readonly messages: readonly Message[] };
  /** One of `messages`, for programs that answer messages one by one. */
  message: Message;
  /** A message of the own user changed its state. */
  sent: Message;
  /** State of the connection. */
  connection: ConnectionState;
  /** `userId` is writing. */
  typing: { readonly conversationId: string; readonly userId: string };
  /** The other one of a private chat has read up to `seq`. */
  read: { readonly conversationId: string; readonly userId: string; readonly seq: number };
  /** Users that are watched came or went. */
  presence: { readonly userId: string; readonly online: boolean; readonly lastSeen?: number };
  /** `userId` pinned a message, or took the pin off. Told of conversations that are loaded. */
  pin: { readonly conversationId: string; readonly seq: number; readonly userId: string; readonly pinned: boolean };
  /** You came into, or went out of, a group; or it is no more. */
  membership: { readonly conversationId: string; readonly type: "joined" | "left" | "dismissed" };
  /** Name, role, mute or anything else of a group changed: ask for what you show of it. */
  group: { readonly conversationId: string };
  /** `by` wants to add you to a group. */
  invited: { readonly conversationId: string; readonly by: string };
  /** An event of the server that this version of the SDK has no name for. */
  other: { readonly conversationId?: string; readonly payload: Readonly<Record<string, unknown>> };
  /** Something went wrong that the client goes on without: a token that was not renewed, a store that cannot write. */
  error: Error;
}

/** One event of the async iterator. */
export type AnyEvent = { [K in keyof Events]: { readonly type: K; readonly event: Events[K] } }[keyof Events];

/** A conversation, and a window over its timeline: everything from the oldest loaded message to the newest. */
export interface Conversation {
  readonly id: string;
  readonly kind: "private" | "group";
  /** The other user of a private chat. */
  readonly peer: string | undefined;
  /** Unread messages of others. */
  readonly unread: number;
  /** Unread messages that mention you, and the first of them. 0: none. */
  readonly mentions: number;
  readonly mentionSeq: number;
  /** The newest sequence number. */
  readonly lastSeq: number;
  /** The newest message, local echoes included; for the list of conversations. */
  readonly lastMessage: Message | undefined;
  /** How far you have read, on whichever device. */
  readonly readSeq: number;
  /** How far the other one of a private chat has read, as far as it is known. */
  readonly peerReadSeq: number;
  /** False when you are not in the group any more. */
  readonly member: boolean;
  /** Your own settings of this conversation, the same on all your devices. */
  readonly settings: ConversationSettings;
  /** The window, rising by `seq`, then what is being sent. Another array after each change. */
  readonly messages: readonly Message[];
  /** True once the newest page is loaded. */
  readonly loaded: boolean;
  /** There is more before the window. */
  readonly hasOlder: boolean;
  /** Rises with each change. */
  readonly version: number;

  /**
   * Loads the newest page unless the window is loaded. From then on the window is kept complete up to the newest message.
   * Waits for a connection; rejects if the server refuses the pull, or if the client is stopped.
   */
  open(): Promise<void>;
  /** Extends the window by a page. Returns the number of messages that were added; 0 at the beginning. */
  loadOlder(limit?: number): Promise<number>;
  /** Drops messages from the old end of the window, so that `keep` stay. They can be loaded again. */
  trim(keep: number): void;
  /** Sends a message: it is shown at once and sent until it is answered, also after a reload. */
  send(draft: string | Draft): Sent;
  /** Sends a failed message again, as a new message. */
  retry(msgId: string): Sent;
  /** Removes a failed message from the list. */
  discard(msgId: string): void;
  /** Recalls a message. Resolves with code 0. */
  recall(seq: number): Promise<void>;
  /** Edits an own message. Resolves with code 0. */
  edit(seq: number, draft: string | Draft): Promise<void>;
  /** Adds or removes a reaction. Resolves with code 0. */
  react(seq: number, reaction: string, remove?: boolean): Promise<void>;
  /** Pins or unpins a message. Resolves with code 0. */
  pin(seq: number, remove?: boolean): Promise<void>;
  /** Moves the read position; without `seq` to the newest message. Shown at once, sent until it is answered. */
  markRead(seq?: number): void;
  /** Tells the others that you are writing; at most every two seconds. */
  typing(): void;
  /** One message by its number, in its present state. */
  message(seq: number): Promise<Message>;
  /** All reactions to a message, in the order of reacting. */
  reactions(
    seq: number,
    cursor?: number,
    limit?: number,
  ): Promise<{ reactions: { reaction: string; user_id: string; time: number }[]; next_cursor?: number }>;
  /** The pinned messages, the newest pin first. */
  pins(): Promise<Message[]>;
  /** Changes your own settings of this conversation. Shown at once, and taken back if the server refuses them. */
  configure(change: ConversationChanges): Promise<void>;
  /** Removes all messages for you alone, on all your devices; it is not in the list until the next message. */
  clear(): Promise<void>;
  /** How far each member has read. */
  positions(
    cursor?: string,
    limit?: number,
  ): Promise<{ positions: { user_id: string; seq: number }[]; next_cursor?: string }>;
}

/**
 * Where the client keeps its state over a reload: a few records, each a JSON-like value under a key. The client decides
 * what is in them. One store belongs to one user.
 */
export interface Store {
  /** All records. */
  load(): Promise<Map<string, unknown>>;
  /**
   * Writes all of it or nothing; `undefined` removes a record. When the page is hidden or ends, a call may come before the
   * one before it has resolved: keep their order, and begin at once.
   */
  write(records: ReadonlyMap<string, unknown>): Promise<void>;
  /** The tabs of this browser that use this store, if any. */
  tabs?(owner: string): Tabs | undefined;
}

/** What the SDK uses of a WebSocket: the browser's, Node's from version 22 on, and that of the package `ws` fit. */
export interface WebSocketLike {
  readonly readyState: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  // biome-ignore lint/suspicious/noExplicitAny: the types of events differ between implementations.
  addEventListener(type: "open" | "message" | "close" | "error", listener: (event: any) => void): void;
}

/** Options of the client. */
export interface ImClientOptions {
  /** Address of the server, `https://chat.example` or `wss://chat.example/ws`. Of several, the next one is tried after a failure. */
  url: string | readonly string[];
  /**
   * Provides a token: for the first connection, for one that is about to expire, or instead of one that was refused.
   * Null ends the session: the client stops. A rejection is told as `error`, and the provider is called again later.
   * Tokens are sent in the first frame, never in an address. Either this or `userId`.
   */
  token?: (reason: "login" | "expiring" | "refused") => string | null | Promise<string | null>;
  /** For servers with `auth.mode = "insecure"`. */
  userId?: string;
  /** Default: a random one, kept in the store. */
  deviceId?: string;
  /** Default: memory, which keeps nothing over a reload. */
  store?: Store;
  /**
   * Several tabs with the same store: `shared` (default) has one connection and one device for all of them, `own` has a
   * connection and a device for each. For {@link IndexedDbStore}; needs `navigator.locks` and `BroadcastChannel`.
   */
  tabs?: "shared" | "own";
  /** Default: the global one. */
  webSocket?: new (
    url: string,
  ) => WebSocketLike;
  /** Default: the global one. */
  fetch?: typeof fetch;
  /** When `change` is told. Default: 16 ms after the first change. */
  schedule?: (run: () => void) => void;
  /**
   * Begin the window of every conversation at the read position, so that `messages` tells each message that was not
   * marked as read, of all conversations, also after a time offline. For programs that answer messages. Default: a
   * window begins when the conversation is opened, or with the first push.
   */
  follow?: boolean;
  /** Messages in one page. Default 50, at most 500. */
  pageSize?: number;
  /** Messages of a window that are kept in memory; older ones are dropped. Default 10,000. */
  windowMax?: number;
  /** Messages of a window that are kept in the store. Default 100. */
  storedMax?: number;
}

/** A profile. */
export interface Profile {
  readonly user_id: string;
  readonly nickname: string;
  readonly avatar?: string | null;
  readonly meta?: unknown;
  readonly updated_at?: number;
}

/** A group, as a member sees it. */
export interface Group {
  readonly conversation_id: string;
  readonly name: string;
  readonly members: number;
  readonly muted: boolean;
  readonly history: "start" | "joining";
  readonly open: boolean;
  readonly created_at: number;
  readonly role: "owner" | "admin" | "member";
  readonly avatar?: string | null;
  readonly notice?: string;
  readonly meta?: unknown;
}

/** A member of a group. */
export interface Member {
  readonly user_id: string;
  readonly role: "owner" | "admin" | "member";
  readonly join_time: number;
  readonly muted_until: number;
}

/** A request was refused, or could not be made. */
export class ImError extends Error implements Refusal {
  readonly code: number;
  /** With 429 and 503: when to try again. */
  readonly retryAfterMs: number | undefined;
  constructor(code: number, message: string, retryAfterMs?: number) {
    super(message);
    this.name = "ImError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Frames, as `docs/protocol.md` has them. */

import { hex } from "./ids.js";
import {
  type Attachment,
  type ConversationSettings,
  ImError,
  type Message,
  type Reaction,
  type Refusal,
} from "./types.js";

/** Commands. Single constants, since minifiers put the numbers in their place. */
export const CMD_HEARTBEAT = 0;
export const CMD_LOGIN = 1;
export const CMD_CHAT = 2;
export const CMD_PULL = 3;
export const CMD_ACK = 4;
export const CMD_PUSH = 5;
export const CMD_SYNC = 6;
export const CMD_EVENT = 7;
export const CMD_TYPING = 8;
export const CMD_PRESENCE = 9;

/** Client to server. */
export interface Request {
  cmd: number;
  msg_id?: string;
  conversation_id?: string;
  to?: string;
  cursor_seq?: number | undefined;
  payload?: unknown;
}

/** Server to client. */
export interface Frame {
  cmd: number;
  code: number;
  msg_id?: string;
  conversation_id?: string;
  peer?: string;
  seq?: number;
  next_cursor_seq?: number;
  has_more?: boolean;
  reset?: boolean;
  // biome-ignore lint/suspicious/noExplicitAny: depends on the command, and comes from the network.
  payload?: any;
}

/** A message as pulls and pushes show it. */
export interface WireMessage {
  msg_id: string;
  seq: number;
  sender_id: string;
  content: string;
  msg_type: number;
  send_time: number;
  recalled?: boolean;
  recall_seq?: number;
  edit_seq?: number;
  /** The edit leaves the content as it is, and `content` is empty. */
  keeps_content?: boolean;
  react_seq?: number;
  pin_seq?: number;
  reaction?: string;
  remove?: boolean;
  edited_at?: number;
  meta?: unknown;
  reply_to?: number;
  mentions?: readonly string[];
  attachments?: readonly Attachment[];
  reactions?: readonly Reaction[];
}

/** Content of a request of cmd 2: fields that are undefined are not sent. */
export type Payload = { readonly [K in keyof WireMessage]?: WireMessage[K] | undefined };

/** One conversation in a sync. */
export interface SyncEntry {
  conversation_id: string;
  peer?: string;
  last_seq?: number;
  last_ack_seq?: number;
  unread?: number;
  last_message?: WireMessage;
  removed?: boolean;
  cleared?: boolean;
  mentions?: number;
  mention_seq?: number;
  settings?: ConversationSettings;
}

/** Longest frame that the server takes. */
export const FRAME_BYTES_MAX = 65_536;

/** Types 3 to 6 change another message, and are not shown themselves. */
export const isChange = (type: number): boolean => type >= 3 && type <= 6;

/** Counts as unread: not a change, not made by the system. */
export const isCounted = (type: number): boolean => !isChange(type) && type !== 8;

/** The refusal in a frame that is not of code 0. */
export function refusal(frame: Frame): Refusal {
  const { payload } = frame;
  const message = typeof payload === "string" ? payload : payload?.message;
  return { code: frame.code, message: typeof message === "string" ? message : `refused with code ${frame.code}` };
}

/** What a refused request rejects with. */
export const errorOf = ({ code, message }: Refusal, retryAfterMs?: number): ImError =>
  new ImError(code, message, retryAfterMs);

/** The delay that a frame of code 429 or 503 asks for. */
export function retryAfter(frame: Frame): number | undefined {
  const after = frame.payload?.retry_after_ms;
  return typeof after === "number" && after >= 0 ? after : undefined;
}

/** Fields of the wire under the names of {@link Message}, such as `editedAt` for `edited_at`; null counts as absent. */
export function camel(from: object): Partial<Message> {
  const to: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(from)) {
    if (value != null) to[name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase())] = value;
  }
  return to;
}

/**
 * A message to be shown, in its state after the entry `upTo`. Fields that this version does not know are there as well.
 */
export const shown = (conversationId: string, me: string, from: Payload, upTo?: number): Message => ({
  content: "",
  seq: 0,
  msgType: 1,
  sendTime: 0,
  senderId: me,
  recalled: false,
  state: "stored",
  msgId: "",
  ...camel(from),
  conversationId,
  // Ids have no white space.
  key: `${from.sender_id ?? me} ${from.msg_id}`,
  mine: (from.sender_id ?? me) === me,
  ...(upTo && { upTo }),
});

/** The name of the private chat of two users: both ids in the order of their bytes. */
export function privateId(one: string, other: string): string {
  // UTF-8 keeps the order of code points; UTF-16, by which JavaScript compares, does not.
  const order = (id: string) =>
    hex(
      Array.from(id, (char) => char.codePointAt(0)!),
      6,
    );
  return `private_${(order(one) < order(other) ? [one, other] : [other, one]).join("_")}`;
}

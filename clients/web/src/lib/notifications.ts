/** What a push, or a message for a page in the background, does to the notifications of this browser. Pure rules. */

import type { MessageNotification, ReadNotification } from "im-client";
import type { PushTexts } from "../i18n/push.ts";

export type Incoming = MessageNotification | ReadNotification;

/** Conversations of which the newest shown and read numbers are kept; the oldest go first. */
const KEPT_MAX = 500;

/** How far messages of each conversation were shown, or read. The last one that changed is at the end. */
export type Bounds = ReadonlyMap<string, number>;

/** What is on the screen of a conversation: the number of its notification. */
export type OnScreen = number | undefined;

/**
 * - `show`: show the notification, with a sound unless it is quiet.
 * - `repeat`: nothing is new. A push has to show something: the present one again, without a sound.
 * - `close`: close the present one.
 * - `nothing`: neither.
 */
export type Action = "show" | "repeat" | "close" | "nothing";

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Reads what a push service has delivered. Undefined: a type that this version does not know, or nothing of ours. */
export function parse(data: unknown): Incoming | undefined {
  if (typeof data !== "object" || data === null) return undefined;
  const { type, conversation_id, seq, title, body, count, sender_id, mention, badge, quiet } = data as Record<
    string,
    unknown
  >;
  if (typeof conversation_id !== "string" || conversation_id === "" || !isCount(seq)) return undefined;
  const about = { conversation_id, seq, ...(isCount(badge) && { badge }) };
  if (type === "read") return { type, ...about };
  if (type !== "message") return undefined;
  return {
    type,
    ...about,
    title: typeof title === "string" ? title : "",
    ...(typeof body === "string" && body !== "" && { body }),
    count: isCount(count) && count > 0 ? count : 1,
    sender_id: typeof sender_id === "string" ? sender_id : "",
    ...(mention === true && { mention }),
    ...(quiet === true && { quiet }),
  };
}

/** Decides about one of them. `isLookedAt`: a visible page shows this conversation right now. */
export function decide(
  { type, conversation_id: id, seq }: Incoming,
  bounds: Bounds,
  onScreen: OnScreen,
  isLookedAt: boolean,
): { action: Action; bounds: Bounds } {
  const known = bounds.get(id) ?? -1;
  const next = seq > known ? raised(bounds, id, seq) : bounds;
  if (type === "read") return { action: onScreen !== undefined && onScreen <= seq ? "close" : "nothing", bounds: next };
  if (isLookedAt) return { action: onScreen === undefined ? "nothing" : "close", bounds: next };
  if (seq > known) return { action: "show", bounds: next };
  return { action: onScreen === undefined ? "nothing" : "repeat", bounds };
}

function raised(bounds: Bounds, id: string, seq: number): Bounds {
  const others = [...bounds].filter(([one]) => one !== id);
  return new Map([...others.slice(-(KEPT_MAX - 1)), [id, seq]]);
}

/** One notification for a conversation. */
export const tagOf = (conversationId: string): string => `im ${conversationId}`;

/** What a notification keeps for a click, and for what comes after it. */
export interface NotificationData {
  conversation_id: string;
  seq: number;
  sender_id: string;
}

/** Whether a notification's data is ours. */
export function isOurs(data: unknown): data is NotificationData {
  const { conversation_id, seq } = (data ?? {}) as Partial<NotificationData>;
  return typeof conversation_id === "string" && typeof seq === "number";
}

/** Title and text. */
export function wording(message: MessageNotification, texts: PushTexts): { title: string; body: string } {
  const { title, body, count, mention } = message;
  const lines = [
    [mention ? texts.mentioned : "", body ?? ""].filter(Boolean).join(": "),
    count > 1 || body === undefined ? texts.newMessages(count) : "",
  ];
  return { title: title || texts.appName, body: lines.filter(Boolean).join("\n") };
}

/** The address that opens a conversation. In the fragment, which is not sent to servers. */
export function addressOf({ conversation_id, sender_id }: NotificationData): string {
  return `/#${new URLSearchParams({ conversation: conversation_id, ...(sender_id && { from: sender_id }) })}`;
}

/** The conversation that an address asks for. */
export function wantedBy(fragment: string): { id: string; from: string } | undefined {
  const query = new URLSearchParams(fragment.replace(/^#/, ""));
  const id = query.get("conversation");
  return id ? { id, from: query.get("from") ?? "" } : undefined;
}

/** The bytes of a text in base64url. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

/** Whether a subscription was made with this key. Browsers that do not say it are believed. */
export function hasKey(ofSubscription: ArrayBuffer | null | undefined, key: Uint8Array): boolean {
  if (!ofSubscription) return true;
  const own = new Uint8Array(ofSubscription);
  return own.length === key.length && own.every((byte, n) => byte === key[n]);
}

/** What pages tell the worker. */
export type ToWorker =
  | Incoming
  /** The language of the texts. */
  | { type: "language"; language: "en" | "zh" }
  /** Notifications end in this browser: all are closed, and what was shown is forgotten. */
  | { type: "end" };

/** What the worker tells pages. */
export type ToPage =
  /** Answered by {@link Answer} through the port. */
  | { type: "ask"; conversation_id: string }
  | { type: "open"; data: NotificationData }
  /** The browser has replaced the subscription. */
  | { type: "subscription" };

/** A page's answer. */
export interface Answer {
  /** The notifications of this browser are for the user of this page, or nobody has signed in there yet. */
  isOwner: boolean;
  /** It is visible, and shows the conversation. */
  isLookedAt: boolean;
}

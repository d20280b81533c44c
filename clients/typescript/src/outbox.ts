/**
 * What was handed to `send` and is not in the conversation yet. Pure rules, no socket.
 *
 * One message of a conversation is in flight at a time, so that refusals for overload do not change the order. Its `msgId`
 * never changes, so that it may be sent again at any time.
 */

import type { Message, MessageState, Refusal } from "./types.js";
import { type Frame, isChange, type Payload, refusal, shown } from "./wire.js";

/** An unsent or unconfirmed message; kept over a reload as it is. */
export interface OutboxItem {
  readonly conversationId: string;
  readonly peer?: string | undefined;
  readonly msgId: string;
  /** Rises: the order of sending. */
  readonly order: number;
  payload: Payload;
  /** The tab that sends it. */
  owner: string;
  state: MessageState;
  seq: number;
  error?: Refusal;
  contentDiffers?: boolean;
  /** The server has said that it is committed at `seq`. */
  committed?: boolean;
}

/** What a reply means for its message. */
export type Verdict = "accepted" | "failed" | "retry" | "login" | "ignored";

/** Codes that are final. */
const FINAL = new Set([400, 403, 404, 409, 413]);

/**
 * A reply of cmd 2, the first one or a later one. The last one counts: it may give another sequence number, or take a
 * promise back. `stored`: the request asked for the answer at the commit.
 */
export function applyReply(item: OutboxItem, frame: Frame, stored = false): Verdict {
  if (frame.code === 0) {
    item.state = "accepted";
    item.seq = frame.seq ?? item.seq;
    delete item.error;
    const { replaced, content_differs: differs, ...fields } = frame.payload ?? {};
    if (differs) item.contentDiffers = true;
    // By the app: this is what all readers see.
    if (replaced) item.payload = { ...item.payload, ...fields };
    if (stored) item.committed = true;
    return "accepted";
  }
  if (FINAL.has(frame.code)) {
    item.state = "failed";
    item.error = refusal(frame);
    return "failed";
  }
  if (item.state === "failed") return "ignored";
  return frame.code === 401 ? "login" : "retry";
}

/** Recalls and other changes are not shown as messages. */
export const isHidden = (item: OutboxItem): boolean => isChange(item.payload.msg_type ?? 1);

/** The local echo. */
export const echo = (item: OutboxItem, me: string): Message => ({
  ...shown(item.conversationId, me, { ...item.payload, msg_id: item.msgId, seq: item.seq }),
  state: item.state,
  ...(item.error && { error: item.error }),
  ...(item.contentDiffers && { contentDiffers: true }),
});

/** Messages of one conversation, by order. */
export class Outbox {
  readonly _items: OutboxItem[] = [];

  _add(item: OutboxItem): void {
    this._items.push(item);
    this._items.sort((a, b) => a.order - b.order);
  }

  _get(msgId: string): OutboxItem | undefined {
    return this._items.find((item) => item.msgId === msgId);
  }

  _remove(item: OutboxItem): void {
    const n = this._items.indexOf(item);
    if (n >= 0) this._items.splice(n, 1);
  }

  /** The next one to send, of this tab. */
  _next(owner: string): OutboxItem | undefined {
    return this._items.find((item) => item.owner === owner && item.state === "sending");
  }

  /** Accepted ones that the conversation does not show yet, of this tab. */
  _unconfirmed(owner: string): OutboxItem[] {
    return this._items.filter((item) => item.owner === owner && item.state === "accepted");
  }

  /**
   * Removes what is in the conversation by now: own messages with these ids, and committed ones before the window.
   * In the window only the message itself counts: an answer about another attempt may have come meanwhile. The number of
   * a change that had no effect, such as a reaction that was there already, stays empty.
   */
  _settle(ids: ReadonlySet<string>, windowFrom: number): OutboxItem[] {
    const settled = this._items.filter(
      (item) => ids.has(item.msgId) || (item.committed && (item.seq < windowFrom || isHidden(item))),
    );
    for (const item of settled) this._remove(item);
    return settled;
  }
}

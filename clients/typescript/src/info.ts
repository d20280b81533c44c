/** What the list shows of a conversation: newest message, unread count, read positions. Pure rules, no socket. */

import { changeMessage, changeOf } from "./timeline.js";
import type { ConversationSettings, Message } from "./types.js";
import { isChange, isCounted, type SyncEntry, shown, type WireMessage } from "./wire.js";

/** State of a conversation beside its timeline. Kept over a reload as it is. */
export interface Info {
  peer?: string | undefined;
  lastSeq: number;
  /** The newest message that is no change. */
  last?: Message;
  /** Read position, as it is shown here: never behind the server's. */
  readSeq: number;
  /** A read position that the server has not answered yet. */
  readPending?: number;
  peerReadSeq: number;
  unread: number;
  /** Sequence numbers that pushes added to `unread` since the server last counted. */
  counted: number[];
  mentions: number;
  mentionSeq: number;
  member: boolean;
  /** In the list: the server named it, or something was sent to it. */
  listed: boolean;
  settings: ConversationSettings;
  /** Not in the list until the next message: the user cleared it. */
  cleared?: boolean;
  /** Rises over all conversations with each new message: the order of the list. */
  touched: number;
}

export const newInfo = (): Info => ({
  lastSeq: 0,
  readSeq: 0,
  peerReadSeq: 0,
  unread: 0,
  counted: [],
  mentions: 0,
  mentionSeq: 0,
  member: true,
  listed: false,
  settings: {},
  touched: 0,
});

/** An entry of a sync. Pushes may have gone further than the entry: what they added stays. */
export function applyEntry(info: Info, entry: SyncEntry, me: string): void {
  if (entry.peer !== undefined) info.peer = entry.peer;
  if (entry.removed) {
    info.member = false;
    return;
  }
  info.member = true;
  info.listed = true;
  if (entry.cleared) {
    // Up to `last_seq`, where that is known: what came after it is pulled.
    const { last_seq: lastSeq = info.lastSeq } = entry;
    Object.assign(info, { unread: 0, counted: [], mentions: 0, mentionSeq: 0, cleared: true, lastSeq });
    delete info.last;
    return;
  }
  const lastSeq = entry.last_seq ?? 0;
  info.counted = info.counted.filter((seq) => seq > lastSeq);
  if (lastSeq > info.lastSeq) delete info.cleared;
  if (lastSeq >= info.lastSeq) {
    info.lastSeq = lastSeq;
    if (entry.last_message) setLast(info, entry.conversation_id, me, entry.last_message, lastSeq);
  }
  // A position that was moved here, and of which the server does not know yet, counts: what is below it was read.
  const readSeq = entry.last_ack_seq ?? 0;
  if (readSeq >= info.readSeq) {
    info.readSeq = readSeq;
    info.unread = (entry.unread ?? 0) + info.counted.length;
    info.mentions = entry.mentions ?? 0;
    info.mentionSeq = entry.mention_seq ?? 0;
  }
  info.settings = entry.settings ?? {};
}

/** Whether a message with these mentions mentions this user. */
export const isMentioned = (mentions: readonly string[] | undefined, me: string): boolean =>
  !!mentions?.some((id) => id === me || id === "*");

/** New entries of the timeline, rising, from a push or a pull. Returns true if the server has to count anew. */
export function applyNews(info: Info, conversationId: string, me: string, news: readonly WireMessage[]): boolean {
  let recount = false;
  for (const entry of news) {
    if (isChange(entry.msg_type)) {
      if (info.last && info.last.seq === changeOf(entry).target) info.last = changeMessage(info.last, changeOf(entry));
      // Whether the recalled message was among the unread ones, or among those with a mention, is not known here.
      if (entry.msg_type === 3 || entry.mentions) recount ||= changeOf(entry).target > info.readSeq;
    } else if (entry.seq > info.lastSeq || !info.last) {
      if (entry.msg_type !== 8) setLast(info, conversationId, me, entry);
    }
    if (entry.seq <= info.lastSeq) continue;
    info.lastSeq = entry.seq;
    info.listed = true;
    if (isCounted(entry.msg_type)) delete info.cleared;
    if (!isCounted(entry.msg_type) || entry.recalled || entry.sender_id === me || entry.seq <= info.readSeq) continue;
    info.unread++;
    info.counted.push(entry.seq);
    if (isMentioned(entry.mentions, me)) {
      info.mentions++;
      info.mentionSeq ||= entry.seq;
    }
  }
  return recount;
}

/** The read position is at `seq`, and the user has looked. `exact` is the server's count of unread messages above it. */
export function applyRead(info: Info, seq: number, exact: number | undefined): void {
  const { marked_unread, ...settings } = info.settings;
  info.settings = settings;
  if (seq < info.readSeq) return;
  info.readSeq = seq;
  info.counted = info.counted.filter((one) => one > seq);
  if (seq >= info.lastSeq) info.unread = 0;
  else if (exact !== undefined) info.unread = exact;
  if (seq >= info.lastSeq || seq >= info.mentionSeq) {
    // Later mentions, if any, are in the next sync.
    info.mentions = seq >= info.lastSeq ? 0 : Math.max(0, info.mentions - 1);
    if (info.mentions === 0) info.mentionSeq = 0;
  }
}

function setLast(info: Info, conversationId: string, me: string, entry: WireMessage, upTo?: number): void {
  if (isChange(entry.msg_type) || (info.last && info.last.seq > entry.seq)) return;
  if (info.last?.seq === entry.seq && info.last.recalled === (entry.recalled === true)) return;
  info.last = shown(conversationId, me, entry, upTo);
}

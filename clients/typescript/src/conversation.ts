/** One conversation: its state, and how answers, pushes and sync entries change it. */

import { applyEntry, applyNews, applyRead, type Info, newInfo } from "./info.js";
import { applyReply, echo, isHidden, Outbox, type OutboxItem } from "./outbox.js";
import type { Reader } from "./reader.js";
import type { Sender, SentHandle } from "./sender.js";
import type { Session } from "./session.js";
import { type Appended, type StoredTimeline, Timeline } from "./timeline.js";
import { type Conversation, type Draft, ImError, type Message, MsgType, type Sent } from "./types.js";
import { Cmd, type Frame, isCounted, type Request, type SyncEntry, type WireMessage } from "./wire.js";

/** What is kept of a conversation over a reload. */
export interface StoredConversation {
  info: Info;
  timeline?: StoredTimeline | undefined;
}

/** The shortest time between two typing events; the server takes two a second. */
const TYPING_EVERY_MS = 2_000;

export class ConversationState implements Conversation {
  info: Info;
  readonly timeline: Timeline;
  readonly outbox = new Outbox();
  readonly handles = new Map<string, SentHandle>();
  /** Entries may be missing at the new end: a pull is due. */
  stale = false;
  /** Messages up to this one were told as events. */
  private told: number;
  /** Before the first push that came while there was no window. */
  private pushed = Number.POSITIVE_INFINITY;
  private rises = 0;
  private cached: { version: number; messages: readonly Message[] } | undefined;
  private readonly echoes = new Map<OutboxItem, Message>();
  private typedAt = 0;

  constructor(
    readonly id: string,
    private readonly session: Session,
    readonly reader: Reader,
    readonly sender: Sender,
    stored?: StoredConversation,
  ) {
    this.info = { ...newInfo(), ...stored?.info };
    this.timeline = new Timeline(id, session.me, stored?.timeline);
    this.told = this.timeline.cursor;
    this.stale = this.timeline.loaded && this.info.lastSeq > this.timeline.cursor;
  }

  // What is shown.

  get kind(): "private" | "group" {
    return this.id.startsWith("group_") ? "group" : "private";
  }

  get peer(): string | undefined {
    return this.info.peer;
  }

  get unread(): number {
    return this.info.unread;
  }

  get mentions(): number {
    return this.info.mentions;
  }

  get mentionSeq(): number {
    return this.info.mentionSeq;
  }

  get lastSeq(): number {
    return this.info.lastSeq;
  }

  get readSeq(): number {
    return this.info.readSeq;
  }

  get peerReadSeq(): number {
    return this.info.peerReadSeq;
  }

  get member(): boolean {
    return this.info.member;
  }

  get settings(): Readonly<Record<string, unknown>> {
    return this.info.settings;
  }

  get loaded(): boolean {
    return this.timeline.loaded;
  }

  get hasOlder(): boolean {
    return this.timeline.hasOlder;
  }

  get version(): number {
    return this.rises;
  }

  get lastMessage(): Message | undefined {
    const last = [...this.echoes.values()].at(-1);
    return last ?? (this.info.last && (this.timeline.find(this.info.last.seq) ?? this.info.last));
  }

  get messages(): readonly Message[] {
    if (this.cached?.version !== this.rises) {
      this.cached = { version: this.rises, messages: [...this.timeline.shown, ...this.echoes.values()] };
    }
    return this.cached.messages;
  }

  // What the application does.

  open(): Promise<void> {
    return this.reader.open(this);
  }

  loadOlder(limit?: number): Promise<number> {
    return this.reader.older(this, limit);
  }

  trim(keep: number): void {
    if (this.timeline.trim(keep)) this.changed(true, false);
  }

  send(draft: string | Draft): Sent {
    const { content, msgType, msgId, meta, replyTo, mentions, attachments } = asDraft(draft);
    const payload = {
      ...(content !== undefined && { content }),
      msg_type: msgType ?? MsgType.Text,
      send_time: Date.now(),
      ...(meta !== undefined && { meta }),
      ...(replyTo !== undefined && { reply_to: replyTo }),
      ...(mentions !== undefined && { mentions: [...mentions] }),
      ...(attachments !== undefined && { attachments: [...attachments] }),
    };
    return this.sender.add(this, payload, msgId);
  }

  retry(msgId: string): Sent {
    const item = this.failed(msgId);
    this.sender.drop(this, item);
    return this.sender.add(this, { ...item.payload, send_time: Date.now() });
  }

  discard(msgId: string): void {
    this.sender.drop(this, this.failed(msgId));
  }

  async recall(seq: number): Promise<void> {
    await this.sender.add(this, { msg_type: MsgType.Recall, recall_seq: seq }).accepted();
  }

  async edit(seq: number, draft: string | Draft): Promise<void> {
    const { content, meta, mentions } = asDraft(draft);
    const payload = {
      msg_type: MsgType.Edit,
      edit_seq: seq,
      ...(content !== undefined && { content }),
      ...(meta !== undefined && { meta }),
      ...(mentions !== undefined && { mentions: [...mentions] }),
    };
    await this.sender.add(this, payload).accepted();
  }

  async react(seq: number, reaction: string, remove = false): Promise<void> {
    const payload = { msg_type: MsgType.Reaction, react_seq: seq, reaction, ...(remove && { remove }) };
    await this.sender.add(this, payload).accepted();
  }

  async pin(seq: number, remove = false): Promise<void> {
    await this.sender.add(this, { msg_type: MsgType.Pin, pin_seq: seq, ...(remove && { remove }) }).accepted();
  }

  markRead(seq = this.info.lastSeq): void {
    const to = Math.min(seq, this.info.lastSeq);
    if (to <= this.info.readSeq) return;
    this.read(to, undefined);
    this.info.readPending = to;
    this.reader.ack(this);
  }

  typing(): void {
    const now = Date.now();
    if (!this.session.online || now - this.typedAt < TYPING_EVERY_MS) return;
    this.typedAt = now;
    // Nothing is lost if nobody is told.
    this.request({ cmd: Cmd.Typing }).catch(() => undefined);
  }

  positions(
    cursor?: string,
    limit?: number,
  ): Promise<{ positions: { user_id: string; seq: number }[]; next_cursor?: string }> {
    return this.reader.positions(this, cursor, limit);
  }

  // What the parts of the client do.

  /** A request about this conversation: a private chat is named by its other user. */
  request(request: Request): Promise<Frame> {
    const { peer } = this.info;
    const named = peer === undefined ? { ...request, conversation_id: this.id } : { ...request, to: peer };
    return this.session.request(named, this);
  }

  entry(entry: SyncEntry): void {
    const { info, timeline, session } = this;
    const before = info.last;
    applyEntry(info, entry, session.me);
    if (entry.cleared) this.clear();
    if (info.last !== before || info.touched === 0) info.touched = session.nextTouch();
    if (!timeline.loaded && session.limits.follow && info.member) {
      // Without unread messages, what is before the newest one is history from before the user joined.
      const from = info.unread > 0 ? info.readSeq : info.lastSeq;
      timeline.begin(Math.min(from, this.pushed));
      this.told = timeline.cursor;
    }
    if (timeline.loaded) this.stale ||= info.member && info.lastSeq > timeline.cursor;
    this.recount();
    this.changed(false, true);
  }

  push(page: readonly WireMessage[]): void {
    const [first] = page;
    if (!first) return;
    if (!this.timeline.loaded) {
      if (this.session.limits.follow) {
        // The entry of a sync says where the window begins.
        this.pushed = Math.min(this.pushed, first.seq - 1);
        this.reader.sync().catch(() => undefined);
        return;
      }
      this.timeline.begin(first.seq - 1);
      this.told = Math.max(this.told, first.seq - 1);
    }
    const { gap, ...appended } = this.timeline.push(page);
    this.appended(appended);
    if (gap) this.reader.pull(this);
  }

  forward(after: number, page: readonly WireMessage[], next: number): void {
    this.appended(this.timeline.forward(after, page, next));
    // Also without news: what is known to be committed may be before the window.
    this.settle([]);
  }

  /** The newest page, unless a push has begun the window meanwhile. */
  newest(page: readonly WireMessage[], hasMore: boolean): void {
    if (this.timeline.loaded) return;
    this.timeline.restart(page, hasMore);
    this.told = Math.max(this.told, this.timeline.cursor);
    this.settle(page);
    this.recount();
    this.changed(true, true);
  }

  older(before: number, page: readonly WireMessage[], hasMore: boolean): number {
    const count = this.timeline.older(before, page, hasMore);
    this.settle(page);
    this.changed(true, false);
    return count;
  }

  read(seq: number, unread: number | undefined): void {
    applyRead(this.info, seq, unread ?? this.exact(seq));
    this.changed(false, true);
  }

  /** The user cleared the conversation: what was shown is gone. */
  clear(): void {
    this.timeline.clear();
    this.changed(true, true);
  }

  /** A pull is refused: the user is not in this group any more. */
  gone(): void {
    if (this.kind === "private") return;
    this.info.member = false;
    this.changed(false, true);
  }

  /** The server does not list it any more. */
  forget(): void {
    const member = this.kind === "private";
    this.info = { ...newInfo(), member, ...(this.info.peer !== undefined && { peer: this.info.peer }) };
    this.clear();
  }

  /** A reply of cmd 2 to one of the messages here, the first or a later one. */
  reply(frame: Frame, committed: (item: OutboxItem) => boolean): void {
    const item = this.outbox.get(frame.msg_id ?? "");
    if (!item) {
      // Sent by another tab over the same connection: its message is not pushed to this one.
      if (frame.code === 0) void this.reader.reach(this, frame.seq ?? 0);
      return;
    }
    const verdict = applyReply(item, frame, committed(item));
    if (verdict === "failed" && isHidden(item)) this.sender.drop(this, item);
    else if (verdict === "accepted" || verdict === "failed") this.itemChanged(item);
    if (verdict === "accepted") this.sender.confirm(this);
  }

  /** Shows an outbox item as it is now. */
  itemChanged(item: OutboxItem): void {
    const message = echo(item, this.session.me);
    if (!isHidden(item)) this.echoes.set(item, message);
    this.session.keepItem(item, true);
    this.tellSent(item, message);
    this.changed(true, true);
  }

  itemRemoved(item: OutboxItem): void {
    this.outbox.remove(item);
    this.sender.removed();
    this.echoes.delete(item);
    this.session.keepItem(item, false);
    this.changed(true, true);
  }

  private appended({ entries, added }: Appended): void {
    if (entries.length === 0) return;
    const { info, session } = this;
    if (applyNews(info, this.id, session.me, entries) && !this.recount()) this.reader.syncSoon();
    if (added.length > 0) info.touched = session.nextTouch();
    this.settle(entries);
    if (this.timeline.shown.length > session.limits.windowMax * 1.1) this.timeline.trim(session.limits.windowMax);
    this.changed(true, true);
    const messages = added.filter((message) => message.seq > this.told);
    this.told = Math.max(this.told, this.timeline.cursor);
    if (messages.length === 0) return;
    if (session.emitter.has("messages")) session.emitter.emit("messages", { conversation: this, messages });
    if (session.emitter.has("message")) for (const message of messages) session.emitter.emit("message", message);
  }

  /** Removes from the outbox what is in the conversation by now. */
  settle(entries: readonly WireMessage[]): void {
    if (this.outbox.items.length === 0) return;
    const own = entries.filter((entry) => entry.sender_id === this.session.me);
    for (const item of this.outbox.settle(new Set(own.map((entry) => entry.msg_id)), this.timeline.from)) {
      const seq = own.find((entry) => entry.msg_id === item.msgId)?.seq ?? item.seq;
      const stored = this.timeline.find(seq) ?? { ...echo(item, this.session.me), seq, state: "stored" as const };
      this.itemRemoved(item);
      this.tellSent(item, stored);
    }
  }

  private tellSent(item: OutboxItem, message: Message): void {
    this.handles.get(item.msgId)?.update(message);
    if (message.state === "stored" || message.state === "failed") this.handles.delete(item.msgId);
    if (!isHidden(item)) this.session.emitter.emit("sent", message);
  }

  /** Counts unread messages in the window, if it has all of them. */
  private recount(): boolean {
    const exact = this.exact(this.info.readSeq);
    if (exact === undefined) return false;
    this.info.unread = exact;
    return true;
  }

  private exact(read: number): number | undefined {
    if (this.timeline.cursor < this.info.lastSeq) return undefined;
    return this.timeline.unreadAbove(read, (one) => !one.mine && !one.recalled && isCounted(one.msgType));
  }

  private failed(msgId: string): OutboxItem {
    const item = this.outbox.get(msgId);
    if (item?.state !== "failed") throw new ImError(404, `${msgId} is not a failed message of this conversation`);
    return item;
  }

  private changed(messages: boolean, info: boolean): void {
    this.rises++;
    this.session.changed(this, messages, info);
  }
}

const asDraft = (draft: string | Draft): Draft => (typeof draft === "string" ? { content: draft } : draft);

/** One conversation: its state, and how answers, pushes and sync entries change it. */

import { Backoff, ignore } from "./backoff.js";
import { type Query, segment } from "./http.js";
import { applyEntry, applyNews, applyRead, type Info, isMentioned, newInfo } from "./info.js";
import { applyReply, echo, isHidden, Outbox, type OutboxItem } from "./outbox.js";
import type { Reader } from "./reader.js";
import type { Sender, SentHandle } from "./sender.js";
import type { Session } from "./session.js";
import { type Appended, type StoredTimeline, Timeline } from "./timeline.js";
import {
  type Conversation,
  type ConversationChanges,
  type ConversationSettings,
  type Draft,
  ImError,
  type Message,
  type Sent,
} from "./types.js";
import {
  CMD_ACK,
  CMD_TYPING,
  type Frame,
  isCounted,
  type Payload,
  type Request,
  type SyncEntry,
  shown,
  type WireMessage,
} from "./wire.js";

/** What is kept of a conversation over a reload. */
export interface StoredConversation {
  info: Info;
  timeline?: StoredTimeline | undefined;
}

/** The shortest time between two typing events; the server takes two a second. */
const TYPING_EVERY_MS = 2_000;

export class ConversationState implements Conversation {
  declare readonly peer: string | undefined;
  declare readonly unread: number;
  declare readonly mentions: number;
  declare readonly mentionSeq: number;
  declare readonly lastSeq: number;
  declare readonly readSeq: number;
  declare readonly peerReadSeq: number;
  declare readonly member: boolean;
  declare readonly settings: ConversationSettings;
  _info: Info;
  readonly _timeline: Timeline;
  readonly _outbox = new Outbox();
  readonly _handles = new Map<string, SentHandle>();
  /** What the reader is doing here. */
  _pulling: Promise<void> | undefined;
  _opening: Promise<void> | undefined;
  _acking = false;
  /** What the sender is doing here. */
  _pumping = false;
  readonly _backoff = new Backoff();
  _confirming = false;
  _pulls = 0;
  /** Entries may be missing at the new end: a pull is due. */
  _stale = false;
  /** Messages up to this one were told as events. */
  private _told: number;
  /** Before the first push that came while there was no window. */
  private _pushed = Number.POSITIVE_INFINITY;
  private _rises = 0;
  private _cached: { version: number; messages: readonly Message[] } | undefined;
  private readonly _echoes = new Map<OutboxItem, Message>();
  private _typedAt = 0;
  /** Excerpts of this conversation: they are told of its new entries. */
  readonly _excerpts = new Set<(entries: readonly WireMessage[]) => void>();

  static {
    for (const name of [
      "peer",
      "unread",
      "mentions",
      "mentionSeq",
      "lastSeq",
      "readSeq",
      "peerReadSeq",
      "member",
      "settings",
    ] as const) {
      Object.defineProperty(ConversationState.prototype, name, {
        get() {
          return this._info[name];
        },
      });
    }
  }

  constructor(
    readonly id: string,
    readonly _session: Session,
    readonly _reader: Reader,
    readonly _sender: Sender,
    stored?: StoredConversation,
  ) {
    this._info = { ...newInfo(), ...stored?.info };
    this._timeline = new Timeline(id, _session.userId, stored?.timeline);
    this._told = this._timeline.cursor;
    this._stale = this._timeline._loaded && this._info.lastSeq > this._timeline.cursor;
  }

  // What is shown.

  get kind(): "private" | "group" {
    return this.id.startsWith("group_") ? "group" : "private";
  }

  get loaded(): boolean {
    return this._timeline._loaded;
  }

  get hasOlder(): boolean {
    return this._timeline._hasOlder;
  }

  get version(): number {
    return this._rises;
  }

  get lastMessage(): Message | undefined {
    const last = [...this._echoes.values()].at(-1);
    return last ?? (this._info.last && (this._timeline._find(this._info.last.seq) ?? this._info.last));
  }

  get messages(): readonly Message[] {
    if (this._cached?.version !== this._rises) {
      this._cached = { version: this._rises, messages: [...this._timeline.shown, ...this._echoes.values()] };
    }
    return this._cached.messages;
  }

  // What the application does.

  open(): Promise<void> {
    return this._reader._open(this);
  }

  loadOlder(limit?: number): Promise<number> {
    return this._reader._older(this, limit);
  }

  trim(keep: number): void {
    if (this._timeline._trim(keep)) this._changed(true, false);
  }

  send(draft: string | Draft): Sent {
    const { content, msgType: msg_type = 1, msgId, meta, replyTo: reply_to, mentions, attachments } = asDraft(draft);
    const payload = { content, msg_type, send_time: Date.now(), meta, reply_to, mentions, attachments };
    return this._sender._add(this, payload, msgId);
  }

  retry(msgId: string): Sent {
    const item = this._failed(msgId);
    this._sender._drop(this, item);
    return this._sender._add(this, { ...item.payload, send_time: Date.now() });
  }

  discard(msgId: string): void {
    this._sender._drop(this, this._failed(msgId));
  }

  recall(seq: number): Promise<void> {
    return this._change({ msg_type: 3, recall_seq: seq });
  }

  edit(seq: number, draft: string | Draft): Promise<void> {
    const { content, meta, mentions } = asDraft(draft);
    return this._change({ msg_type: 4, edit_seq: seq, content, meta, mentions });
  }

  react(seq: number, reaction: string, remove?: boolean): Promise<void> {
    return this._change({ msg_type: 5, react_seq: seq, reaction, remove: remove || undefined });
  }

  pin(seq: number, remove?: boolean): Promise<void> {
    return this._change({ msg_type: 6, pin_seq: seq, remove: remove || undefined });
  }

  markRead(seq = this._info.lastSeq): void {
    const { lastSeq, readSeq, settings } = this._info;
    const to = Math.min(seq, lastSeq);
    if (to <= readSeq && !settings.marked_unread) return;
    this._read(to, undefined);
    this._info.readPending = to;
    this._reader._ack(this);
  }

  typing(): void {
    const now = Date.now();
    if (!this._session._online || now - this._typedAt < TYPING_EVERY_MS) return;
    this._typedAt = now;
    // Nothing is lost if nobody is told.
    this._request({ cmd: CMD_TYPING }).catch(ignore);
  }

  positions(cursor?: string, limit?: number): ReturnType<Conversation["positions"]> {
    return this._call("GET", "/positions", undefined, { cursor, limit });
  }

  async message(seq: number): Promise<Message> {
    const { lastSeq: upTo } = this._info;
    return this._shown(await this._call("GET", `/messages/${seq}`), upTo);
  }

  reactions(seq: number, cursor?: number, limit?: number): ReturnType<Conversation["reactions"]> {
    return this._call("GET", `/messages/${seq}/reactions`, undefined, { cursor, limit });
  }

  async pins(): Promise<Message[]> {
    const { lastSeq: upTo } = this._info;
    const { messages } = await this._call<{ messages: WireMessage[] }>("GET", "/pins");
    return messages.map((message) => this._shown(message, upTo));
  }

  async configure(change: ConversationChanges): Promise<void> {
    const { settings: before } = this._info;
    this._configure(change);
    const { settings: after } = this._info;
    try {
      await this._call("PATCH", "", change);
    } catch (error) {
      if (this._info.settings === after) this._setSettings(before);
      throw error;
    }
    // A sync that was answered meanwhile may have brought the earlier ones.
    this._configure(change);
  }

  async clear(): Promise<void> {
    await this._call("DELETE", "");
    // The event names the number up to which all is gone.
    this._cleared();
  }

  // What the parts of the client do.

  /** Sends a read position that waits, without the pause after the one before. */
  _sendRead(): void {
    const { readPending } = this._info;
    if (readPending !== undefined) this._request({ cmd: CMD_ACK, cursor_seq: readPending }).catch(ignore);
  }

  /** A request about this conversation: a private chat is named by its other user. */
  _request(request: Request): Promise<Frame> {
    const { peer } = this;
    const name = peer === undefined ? { conversation_id: this.id } : { to: peer };
    return this._session._request({ ...request, ...name }, this.id);
  }

  _entry(entry: SyncEntry): void {
    const { _info: info, _timeline: timeline, _session: session } = this;
    const before = info.last;
    applyEntry(info, entry, session.userId);
    if (entry.cleared) this._clear(entry.last_seq);
    if (info.last !== before || info.touched === 0) info.touched = session._nextTouch();
    if (!timeline._loaded && session._limits._follow && info.member) {
      // Without unread messages, what is before the newest one is history from before the user joined.
      const from = info.unread > 0 ? info.readSeq : info.lastSeq;
      timeline._begin(Math.min(from, this._pushed));
      this._told = timeline.cursor;
    }
    if (timeline._loaded) this._stale ||= info.member && info.lastSeq > timeline.cursor;
    this._recount();
    this._changed(false, true);
  }

  _push(page: readonly WireMessage[]): void {
    const [first] = page;
    if (!first) return;
    if (!this._timeline._loaded) {
      if (this._session._limits._follow) {
        // The entry of a sync says where the window begins.
        this._pushed = Math.min(this._pushed, first.seq - 1);
        this._reader._sync().catch(ignore);
        return;
      }
      this._timeline._begin(first.seq - 1);
      this._told = Math.max(this._told, first.seq - 1);
    }
    const { gap, ...appended } = this._timeline._push(page);
    this._appended(appended);
    if (gap) this._reader._pull(this);
  }

  _forward(after: number, page: readonly WireMessage[], next: number, upTo: number): void {
    this._appended(this._timeline._forward(after, page, next, upTo));
    // Also without news: what is known to be committed may be before the window.
    this._settle([]);
  }

  /** The newest page, unless a push has begun the window meanwhile. */
  _newest(page: readonly WireMessage[], hasMore: boolean, upTo: number): void {
    if (this._timeline._loaded) return;
    this._timeline._restart(page, hasMore, upTo);
    this._told = Math.max(this._told, this._timeline.cursor);
    this._settle(page);
    this._recount();
    this._changed(true, true);
  }

  _older(before: number, page: readonly WireMessage[], hasMore: boolean, upTo: number): number {
    const count = this._timeline._older(before, page, hasMore, upTo);
    this._settle(page);
    this._changed(true, false);
    return count;
  }

  _read(seq: number, unread: number | undefined): void {
    applyRead(this._info, seq, unread);
    this._recount();
    this._changed(false, true);
  }

  /** The other one of a private chat has read up to `seq`. */
  _readByPeer(seq: number): void {
    this._info.peerReadSeq = Math.max(this._info.peerReadSeq, seq);
    this._changed(false, true);
  }

  _membership(member: boolean): void {
    Object.assign(this._info, { member, listed: true });
    if (member) this._reader._syncSoon();
    this._changed(false, true);
  }

  _setSettings(settings: ConversationSettings): void {
    this._info.settings = settings;
    this._changed(false, true);
  }

  /** The user cleared the conversation up to this number. */
  _cleared(seq?: number): void {
    this._entry({ conversation_id: this.id, cleared: true, ...(seq !== undefined && { last_seq: seq }) });
    if (seq !== undefined) void this._reader._pull(this);
  }

  /** What was shown is gone. With a number, the window begins after it, so that late pushes change nothing. */
  private _clear(seq?: number): void {
    this._timeline._clear();
    if (seq !== undefined) Object.assign(this._timeline, { from: 0, cursor: seq });
    this._changed(true, true);
  }

  /** A pull is refused: the user is not in this group any more. */
  _gone(): void {
    if (this.kind === "private") return;
    this._info.member = false;
    this._changed(false, true);
  }

  /** The server does not list it any more. */
  _forget(): void {
    const member = this.kind === "private";
    this._info = { ...newInfo(), member, peer: this.peer };
    this._clear();
  }

  /** A reply of cmd 2 to one of the messages here, the first or a later one. */
  _reply(frame: Frame, committed: (item: OutboxItem) => boolean): void {
    const item = this._outbox._get(frame.msg_id ?? "");
    if (!item) {
      // Sent by another tab over the same connection: its message is not pushed to this one.
      if (frame.code === 0) void this._reader._reach(this, frame.seq ?? 0);
      return;
    }
    const verdict = applyReply(item, frame, committed(item));
    if (verdict === "failed" && isHidden(item)) this._sender._drop(this, item);
    else if (verdict === "accepted" || verdict === "failed") this._itemChanged(item);
    if (verdict === "accepted") this._sender._confirm(this);
  }

  /** Shows an outbox item as it is now. */
  _itemChanged(item: OutboxItem): void {
    const message = echo(item, this._session.userId);
    if (!isHidden(item)) this._echoes.set(item, message);
    this._session._keepItem(item, true);
    this._tellSent(item, message);
    this._changed(true, true);
  }

  _itemRemoved(item: OutboxItem): void {
    this._outbox._remove(item);
    this._sender._waiting--;
    this._echoes.delete(item);
    this._session._keepItem(item, false);
    this._changed(true, true);
  }

  private _appended({ entries, added }: Appended): void {
    if (entries.length === 0) return;
    const { _info: info, _session: session } = this;
    if (applyNews(info, this.id, session.userId, entries) && !this._recount()) this._reader._syncSoon();
    if (added.length > 0) info.touched = session._nextTouch();
    for (const hear of this._excerpts) hear(entries);
    this._settle(entries);
    if (this._timeline.shown.length > session._limits._windowMax * 1.1)
      this._timeline._trim(session._limits._windowMax);
    this._changed(true, true);
    const { id: conversationId } = this;
    for (const { pin_seq: seq, sender_id: userId, remove } of entries) {
      if (seq) session._emitter._emit("pin", { conversationId, seq, userId, pinned: !remove });
    }
    const messages = added.filter((message) => message.seq > this._told);
    this._told = Math.max(this._told, this._timeline.cursor);
    if (messages.length === 0) return;
    session._emitter._emit("messages", { conversation: this, messages });
    for (const message of messages) session._emitter._emit("message", message);
  }

  /** Removes from the outbox what is in the conversation by now. */
  _settle(entries: readonly WireMessage[]): void {
    if (this._outbox._items.length === 0) return;
    const own = entries.filter((entry) => entry.sender_id === this._session.userId);
    for (const item of this._outbox._settle(new Set(own.map((entry) => entry.msg_id)), this._timeline.from)) {
      const seq = own.find((entry) => entry.msg_id === item.msgId)?.seq ?? item.seq;
      const stored = this._timeline._find(seq) ?? {
        ...echo(item, this._session.userId),
        seq,
        state: "stored" as const,
      };
      this._itemRemoved(item);
      this._tellSent(item, stored);
    }
  }

  private _tellSent(item: OutboxItem, message: Message): void {
    this._handles.get(item.msgId)?._update(message);
    if (message.state === "stored" || message.state === "failed") this._handles.delete(item.msgId);
    if (!isHidden(item)) this._session._emitter._emit("sent", message);
  }

  /** Counts unread messages and mentions in the window, if it has all of them. */
  private _recount(): boolean {
    const { _info: info, _timeline: timeline } = this;
    if (timeline.cursor < info.lastSeq) return false;
    const unread = timeline._above(info.readSeq, (one) => !one.mine && !one.recalled && isCounted(one.msgType));
    if (!unread) return false;
    const mentions = unread.filter((one) => isMentioned(one.mentions, this._session.userId));
    info.unread = unread.length;
    info.mentions = mentions.length;
    info.mentionSeq = mentions[0]?.seq ?? 0;
    return true;
  }

  /** Takes an excerpt that reaches the window, or overlaps it, into the window. */
  _join({ from, cursor, shown: messages, changes }: Timeline): boolean {
    const { _timeline: timeline } = this;
    if (!timeline._loaded || cursor < timeline.from - 1) return false;
    if (from < timeline.from) {
      const isBefore = ({ seq }: { seq: number }) => seq < timeline.from;
      timeline.shown = [...messages.filter(isBefore), ...timeline.shown];
      timeline.changes = [...changes.filter(isBefore), ...timeline.changes];
      timeline.from = from;
      this._changed(true, false);
    }
    return true;
  }

  private _shown(from: WireMessage, upTo: number): Message {
    return shown(this.id, this._session.userId, from, upTo);
  }

  /** A call about this conversation. */
  private _call<T>(method: string, path: string, body?: unknown, query?: Query): Promise<T> {
    const { id, peer: to } = this;
    const name = to === undefined ? segment(id) : "-";
    return this._session.call(method, `/api/conversations/${name}${path}`, body, { to, ...query });
  }

  /** Shows settings as they are after this change; those at their default are left out. */
  private _configure(change: ConversationChanges): void {
    const entries = Object.entries({ ...this._info.settings, ...change });
    this._setSettings(Object.fromEntries(entries.filter(([, value]) => value)));
  }

  private async _change(payload: Payload): Promise<void> {
    await this._sender._add(this, payload).accepted();
  }

  private _failed(msgId: string): OutboxItem {
    const item = this._outbox._get(msgId);
    if (item?.state !== "failed") throw new ImError(404, `${msgId} is no failed message`);
    return item;
  }

  private _changed(messages: boolean, info: boolean): void {
    this._rises++;
    this._session._changed(this, messages, info);
  }
}

const asDraft = (draft: string | Draft): Draft => (typeof draft === "string" ? { content: draft } : draft);

/**
 * The window over a conversation: pure rules, no socket.
 *
 * All entries of the conversation from `from` to `cursor` are in the window. Pushes extend it at the new end if they
 * continue it without a gap; pulls close gaps; older pages extend it at the old end.
 */

import type { Message, Reaction } from "./types.js";
import { camel, isChange, shown, type WireMessage } from "./wire.js";

/** An entry that changes another message: a recall, an edit, a reaction. */
export interface ChangeEntry {
  readonly seq: number;
  readonly type: number;
  readonly target: number;
  readonly entry: WireMessage;
}

/** What is kept of a timeline over a reload. */
export interface StoredTimeline {
  from: number;
  cursor: number;
  shown: Message[];
  changes: ChangeEntry[];
}

/** What extended a window: all new entries, and those of them that are messages. */
export interface Appended {
  entries: WireMessage[];
  added: Message[];
}

/** Users that a reaction names. */
const NAMED_MAX = 20;

/** A window; see the module. */
export class Timeline {
  /** Messages to show, rising. Changed in place: copy it to keep it. */
  shown: Message[] = [];
  /** Entries that changed others, rising. */
  changes: ChangeEntry[] = [];
  /** Everything from this sequence number on is in the window; 0: from the beginning. -1: nothing is loaded. */
  from = -1;
  /** Everything up to this sequence number is in the window. */
  cursor = 0;

  constructor(
    private readonly _id: string,
    private readonly _me: string,
    stored?: StoredTimeline,
  ) {
    if (stored) Object.assign(this, stored);
  }

  get _loaded(): boolean {
    return this.from >= 0;
  }

  get _hasOlder(): boolean {
    return this.from > 1;
  }

  /** Begins an empty window after `cursor`. */
  _begin(cursor: number): void {
    this._clear();
    this.from = cursor + 1;
    this.cursor = cursor;
  }

  /** Forgets the window. */
  _clear(): void {
    this.shown = [];
    this.changes = [];
    this.from = -1;
    this.cursor = 0;
  }

  /** The newest page, falling, of a pull without a cursor. Replaces the window. */
  _restart(page: readonly WireMessage[], hasMore: boolean, upTo?: number): void {
    this._begin(page[0]?.seq ?? 0);
    this.from = this.cursor + 1;
    this._older(this.from, page, hasMore, upTo);
  }

  /** Appends the entries that are after the cursor. */
  private _append(page: readonly WireMessage[], upTo?: number): Appended {
    const entries = page.filter((entry) => entry.seq > this.cursor);
    const added: Message[] = [];
    for (const entry of entries) {
      this.cursor = entry.seq;
      if (isChange(entry.msg_type)) {
        const change = changeOf(entry);
        this.changes.push(change);
        this._apply(change);
      } else {
        const message = shown(this._id, this._me, entry, upTo);
        this.shown.push(message);
        added.push(message);
      }
    }
    return { entries, added };
  }

  /**
   * The answer to a forward pull from `after`: everything up to `next` is in it. Pulled messages are in the state that
   * they had after the entry `upTo`, at least.
   */
  _forward(after: number, page: readonly WireMessage[], next: number, upTo?: number): Appended {
    // The window was cleared or begun anew while the pull was in flight.
    if (!this._loaded || after > this.cursor) return { entries: [], added: [] };
    const appended = this._append(page, upTo);
    this.cursor = Math.max(this.cursor, next);
    return appended;
  }

  /**
   * A push: applied as far as it continues the window without a gap. A push leaves out what its receiver sent, also
   * in the middle, so that each step counts, not only the first one.
   */
  _push(page: readonly WireMessage[]): Appended & { gap: boolean } {
    const news = page.filter((entry) => entry.seq > this.cursor);
    let end = 0;
    while (end < news.length && news[end]!.seq === this.cursor + 1 + end) end++;
    return { ...this._append(news.slice(0, end)), gap: end < news.length };
  }

  /** The answer, falling, to a backward pull from `before`. Returns the number of messages that were added to the list. */
  _older(before: number, page: readonly WireMessage[], hasMore: boolean, upTo?: number): number {
    if (!this._loaded || before !== this.from) return 0;
    const rising = page.filter((entry) => entry.seq < before).reverse();
    const messages: Message[] = [];
    const changes: ChangeEntry[] = [];
    for (const entry of rising) {
      if (isChange(entry.msg_type)) changes.push(changeOf(entry));
      else messages.push(shown(this._id, this._me, entry, upTo));
    }
    this.shown = [...messages, ...this.shown];
    this.changes = [...changes, ...this.changes];
    this.from = hasMore ? (rising[0]?.seq ?? this.from) : 0;
    // The page may have been read before a change that the window has seen already.
    const added = new Set(messages.map((message) => message.seq));
    for (const change of this.changes) if (added.has(change.target)) this._apply(change);
    return messages.length;
  }

  /** Drops the oldest messages, so that `keep` stay. */
  _trim(keep: number): boolean {
    if (this.shown.length <= keep) return false;
    Object.assign(this, this._stored(keep));
    return true;
  }

  /** The message with this sequence number. */
  _find(seq: number): Message | undefined {
    const n = this._index(seq);
    return n < 0 ? undefined : this.shown[n];
  }

  /** Messages above `read` that count, if the window has all of them. */
  _above(read: number, counts: (message: Message) => boolean): Message[] | undefined {
    if (!this._loaded || (this.from > read + 1 && this.from > 1)) return undefined;
    let n = this.shown.length;
    while (n > 0 && this.shown[n - 1]!.seq > read) n--;
    return this.shown.slice(n).filter(counts);
  }

  /** What is to be kept over a reload: the newest `keep` messages. */
  _stored(keep: number): StoredTimeline | undefined {
    if (!this._loaded) return undefined;
    const dropped = Math.max(0, this.shown.length - keep);
    const shown = this.shown.slice(dropped);
    const from = dropped > 0 ? (shown[0]?.seq ?? this.cursor + 1) : this.from;
    return { from, cursor: this.cursor, shown, changes: this.changes.filter((change) => change.seq >= from) };
  }

  /** Applies a change that may be of another window. */
  _apply(change: ChangeEntry): void {
    const n = this._index(change.target);
    if (n >= 0) {
      this.shown[n] = changeMessage(this.shown[n]!, change);
    }
    if (change.type === 3) {
      // The contents of a recalled message are gone, those of its edits too.
      for (const edit of this.changes) if (edit.type === 4 && edit.target === change.target) blank(edit.entry);
    }
  }

  private _index(seq: number): number {
    let [low, high] = [0, this.shown.length - 1];
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = this.shown[middle]!.seq;
      if (found === seq) return middle;
      if (found < seq) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }
}

/** The message after this change; the same object if nothing changes. */
export function changeMessage(message: Message, change: ChangeEntry): Message {
  if (message.recalled || change.seq <= (message.upTo ?? 0)) return message;
  const { entry } = change;
  if (change.type === 3) return recalled(message);
  if (change.type === 4) return { ...message, ...edited(entry) };
  if (change.type === 5 && entry.reaction !== undefined) {
    const reactions = react(message.reactions ?? [], entry.reaction, entry.sender_id, entry.remove === true);
    return reactions ? { ...message, reactions } : message;
  }
  return message;
}

function recalled(message: Message): Message {
  const { meta, mentions, attachments, reactions, editedAt, ...rest } = message;
  return { ...rest, content: "", recalled: true };
}

function edited({ content, keeps_content, meta, mentions, send_time }: WireMessage): Partial<Message> {
  // What the edit does not name stays.
  return camel({ content: keeps_content ? undefined : content, meta, edited_at: send_time, mentions });
}

function react(all: readonly Reaction[], reaction: string, user: string, remove: boolean): Reaction[] | undefined {
  const found = all.find((one) => one.reaction === reaction);
  if (!found) return remove ? undefined : [...all, { reaction, count: 1, user_ids: [user] }];
  const named = found.user_ids.includes(user);
  if (named !== remove && (named || found.count <= found.user_ids.length)) return undefined;
  const users = remove ? found.user_ids.filter((one) => one !== user) : [...found.user_ids, user].slice(0, NAMED_MAX);
  const count = found.count + (remove ? -1 : 1);
  if (count <= 0) return all.filter((one) => one !== found);
  return all.map((one) => (one === found ? { reaction, count, user_ids: users } : one));
}

/** What this entry changes, and how. */
export function changeOf(entry: WireMessage): ChangeEntry {
  const target = entry.recall_seq ?? entry.edit_seq ?? entry.react_seq ?? entry.pin_seq ?? 0;
  return { seq: entry.seq, type: entry.msg_type, target, entry };
}

function blank(entry: WireMessage): void {
  entry.content = "";
  delete entry.meta;
  delete entry.mentions;
}

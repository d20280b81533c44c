/** The rows of a conversation: messages, headings of days, and the line above what is unread. */

import type { Conversation, Message } from "im-client";
import { type Accessor, batch, createSignal, type Setter } from "solid-js";
import { day, isTime } from "../lib/time.ts";

/** A row keeps its identity while its message changes, so that it is not made anew. */
export type Row = MessageRow | NoteRow;

export interface NoteRow {
  readonly key: string;
  readonly kind: "top" | "day" | "unread" | "end";
  /** For a day: its first millisecond. */
  readonly day?: number;
}

/** How a message is shown among its neighbors. */
export interface Shown {
  readonly message: Message;
  /** The first and the last one of several by one author in a short time. */
  readonly first: boolean;
  readonly last: boolean;
}

export class MessageRow {
  readonly kind = "message";
  readonly shown: Accessor<Shown>;
  readonly set: Setter<Shown>;

  constructor(
    readonly key: string,
    shown: Shown,
  ) {
    [this.shown, this.set] = createSignal(shown, {
      equals: (a, b) => a.message === b.message && a.first === b.first && a.last === b.last,
    });
  }
}

/** Messages of one author are put together if they follow each other within this time. */
const TOGETHER_MS = 5 * 60_000;
/** Types that change other messages. */
const CHANGES = new Set([3, 4, 5, 6]);
export const SYSTEM = 8;
const TOP: NoteRow = { key: "top", kind: "top" };
const UNREAD: NoteRow = { key: "unread", kind: "unread" };
/** The room below the last message. */
const END: NoteRow = { key: "end", kind: "end" };

export class Timeline {
  readonly rows: Accessor<readonly Row[]>;
  /** The latest change took rows from the beginning, or put some there. */
  readonly isShift: Accessor<boolean>;
  private readonly setRows: Setter<readonly Row[]>;
  private readonly setShift: Setter<boolean>;
  private known = new Map<string, MessageRow>();
  private days = new Map<number, NoteRow>();
  private messages: readonly Message[] = [];
  private source: { readonly messages: readonly Message[] };
  /** The message above which the line of unread ones stands. */
  private unreadKey: string | undefined;

  constructor(conversation: Conversation) {
    this.source = conversation;
    [this.rows, this.setRows] = createSignal<readonly Row[]>([TOP, END]);
    [this.isShift, this.setShift] = createSignal(false);
  }

  /** Shows these messages from now on: the conversation's own ones, or those around an older one. */
  setSource(source: { readonly messages: readonly Message[] }): void {
    this.source = source;
    this.update();
  }

  /** The row of a message, -1 if it has none. */
  indexOf(seq: number): number {
    return this.rows().findIndex((row) => row.kind === "message" && row.shown().message.seq === seq);
  }

  /** Puts a line above the first message of others after `readSeq`. */
  markUnread(readSeq: number): void {
    const first = this.source.messages.find(
      ({ seq, mine, msgType }) => seq > readSeq && !mine && !CHANGES.has(msgType) && msgType !== SYSTEM,
    );
    this.unreadKey = first?.key;
    this.messages = [];
    this.update();
  }

  /** Removes that line. */
  clearUnread(): void {
    if (this.unreadKey === undefined) return;
    this.unreadKey = undefined;
    this.messages = [];
    this.update();
  }

  /** The position of the line, -1 if there is none. */
  unreadIndex(): number {
    return this.rows().indexOf(UNREAD);
  }

  /** Takes over what the conversation has now. */
  update(): void {
    const { messages } = this.source;
    if (messages === this.messages) return;
    this.messages = messages;
    const old = this.rows();
    const rows = this.built(messages);
    const [oldFirst, oldLast] = [firstMessage(old), lastMessage(old)];
    const moved = oldFirst !== undefined && firstMessage(rows) !== oldFirst;
    const grown = lastMessage(rows) !== oldLast;
    // A list can keep its place while its beginning changes or while its end does, not both at once.
    if (moved && grown && oldLast !== undefined) {
      const at = rows.findLastIndex((row) => row.key === oldLast);
      if (at >= 0) this.show(rows.slice(0, at + 1), true);
      this.show(rows, at < 0);
    } else {
      this.show(rows, moved);
    }
  }

  private show(rows: readonly Row[], isShift: boolean): void {
    batch(() => {
      this.setShift(isShift);
      this.setRows(rows);
    });
  }

  private built(messages: readonly Message[]): Row[] {
    const rows: Row[] = [TOP];
    const known = new Map<string, MessageRow>();
    const days = new Map<number, NoteRow>();
    const visible = messages.filter(({ msgType }) => !CHANGES.has(msgType));
    let startsRun = true;
    let ofDay: number | undefined;
    batch(() => {
      for (const [at, message] of visible.entries()) {
        const begins = isTime(message.sendTime) ? day(message.sendTime) : ofDay;
        if (begins !== undefined && begins !== ofDay) {
          // Clocks of senders may be wrong, and a day come again: each key is there once.
          if (!days.has(begins)) {
            const row: NoteRow = this.days.get(begins) ?? { key: `day ${begins}`, kind: "day", day: begins };
            days.set(begins, row);
            rows.push(row);
          }
          ofDay = begins;
          startsRun = true;
        }
        if (message.key === this.unreadKey) {
          rows.push(UNREAD);
          startsRun = true;
        }
        const next = visible[at + 1];
        const endsRun = next === undefined || !areTogether(message, next) || next.key === this.unreadKey;
        const shown = { message, first: startsRun, last: endsRun };
        const row = this.known.get(message.key) ?? new MessageRow(message.key, shown);
        row.set(shown);
        known.set(message.key, row);
        rows.push(row);
        startsRun = endsRun;
      }
    });
    this.known = known;
    this.days = days;
    rows.push(END);
    return rows;
  }
}

function areTogether(a: Message, b: Message): boolean {
  return (
    a.senderId === b.senderId &&
    a.msgType !== SYSTEM &&
    b.msgType !== SYSTEM &&
    Math.abs(b.sendTime - a.sendTime) < TOGETHER_MS &&
    (!isTime(b.sendTime) || !isTime(a.sendTime) || day(a.sendTime) === day(b.sendTime))
  );
}

function firstMessage(rows: readonly Row[]): string | undefined {
  return rows.find((row) => row.kind === "message")?.key;
}

function lastMessage(rows: readonly Row[]): string | undefined {
  return rows.findLast((row) => row.kind === "message")?.key;
}

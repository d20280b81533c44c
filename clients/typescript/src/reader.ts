/** Pulls, syncs and read positions: everything that reads from the server, four requests at a time. */

import { Backoff, delayOf, ignore, sleep } from "./backoff.js";
import type { ConversationState } from "./conversation.js";
import type { Session } from "./session.js";
import { ImError } from "./types.js";
import {
  CMD_ACK,
  CMD_PULL,
  CMD_SYNC,
  errorOf,
  type Frame,
  type Request,
  refusal,
  retryAfter,
  type SyncEntry,
} from "./wire.js";

/** The server serves four reads of a user at once; more would wait there. */
const READS_AT_ONCE = 4;
/** The largest page of a pull or sync. */
export const PAGE_MAX = 500;
/** Requests to sync at about the same time become one. */
const SYNC_SOON_MS = 1_000;
/** The shortest time between two read positions of a conversation. */
const ACK_EVERY_MS = 250;

/** A message that another tab sent is looked for after this time, and then less often. */
const REACH_AFTER_MS = 150;

export class Reader {
  /** Where the last sync ended. Undefined: there was none. */
  _position: number | undefined;
  private _syncing: Promise<void> | undefined;
  private _syncAgain = false;
  private _soon: ReturnType<typeof setTimeout> | undefined;
  private _free = READS_AT_ONCE;
  private readonly _queue: (() => void)[] = [];

  constructor(
    private readonly _session: Session,
    /** The position is to be kept. */
    private readonly _moved: () => void,
  ) {}

  /** Syncs from the last position; joins the one that runs, which goes once more. Rejects if the connection is lost. */
  _sync(): Promise<void> {
    if (this._syncing) {
      this._syncAgain = true;
      return this._syncing;
    }
    this._syncing = this._runSync().finally(() => {
      this._syncing = undefined;
    });
    return this._syncing;
  }

  /** Syncs in a moment. */
  _syncSoon(): void {
    this._soon ??= setTimeout(() => {
      this._soon = undefined;
      if (this._session._online) this._sync().catch(ignore);
    }, SYNC_SOON_MS);
  }

  /** The answer to a heartbeat that named the position: another one means that something was missed. */
  _heard(position: number | undefined): void {
    if (position === undefined || this._position === undefined || position === this._position) return;
    this._sync().catch(ignore);
  }

  /** Closes the gap at the new end. */
  _pull(conversation: ConversationState): Promise<void> {
    conversation._stale = true;
    conversation._pulling ??= this._runPull(conversation)
      .catch(() => {
        // The connection is lost: the next login pulls what is stale.
        conversation._stale = true;
      })
      .finally(() => {
        conversation._pulling = undefined;
      });
    return conversation._pulling;
  }

  /** Brings a conversation up to date: its window, or the newest page. */
  async _refresh(conversation: ConversationState): Promise<void> {
    if (conversation._timeline._loaded) await this._pull(conversation);
    else await this._open(conversation).catch(ignore);
  }

  /** Another tab sent this message over the same connection: it is not pushed, and is stored within moments. */
  async _reach(conversation: ConversationState, seq: number): Promise<void> {
    if (!conversation._timeline._loaded) return this._syncSoon();
    for (let delay = REACH_AFTER_MS; delay < 100 * REACH_AFTER_MS && conversation._timeline.cursor < seq; delay *= 3) {
      await sleep(delay);
      await this._pull(conversation);
    }
  }

  /** Loads the newest page, and what came after it. Waits for a connection. */
  _open(conversation: ConversationState): Promise<void> {
    conversation._opening ??= this._runOpen(conversation).finally(() => {
      conversation._opening = undefined;
    });
    return conversation._opening;
  }

  /** Loads a page before the window. */
  async _older(conversation: ConversationState, limit = this._session._limits._pageSize): Promise<number> {
    await this._session._untilOnline();
    const { _timeline: timeline } = conversation;
    if (!timeline._loaded || !timeline._hasOlder) return 0;
    const before = timeline.from;
    const { lastSeq: upTo } = conversation;
    const payload = { limit: Math.max(1, Math.min(limit, PAGE_MAX)), direction: "backward" };
    const frame = await this._read({ cmd: CMD_PULL, cursor_seq: before, payload }, conversation);
    return conversation._older(before, must(frame).payload, frame.has_more === true, upTo);
  }

  /** Sends the read position until it is answered. */
  async _ack(conversation: ConversationState): Promise<void> {
    const { _info: info } = conversation;
    if (conversation._acking) return;
    conversation._acking = true;
    try {
      while (info.readPending !== undefined && this._session._online) {
        const seq = info.readPending;
        await this._read({ cmd: CMD_ACK, cursor_seq: seq }, conversation);
        if (info.readPending === seq) delete info.readPending;
        await sleep(ACK_EVERY_MS);
      }
    } catch {
      // The connection is lost: the next login begins again.
    } finally {
      conversation._acking = false;
    }
  }

  private async _runSync(): Promise<void> {
    do {
      this._syncAgain = false;
      const began = this._session._nextTouch();
      let seen: Set<string> | undefined;
      let cursor = this._position ?? 0;
      let frame: Frame;
      do {
        frame = must(await this._read({ cmd: CMD_SYNC, cursor_seq: cursor, payload: { limit: PAGE_MAX } }));
        if (frame.reset) seen = new Set();
        for (const entry of frame.payload as SyncEntry[]) {
          seen?.add(entry.conversation_id);
          this._session._get(entry.conversation_id, entry.peer)._entry(entry);
        }
        cursor = frame.next_cursor_seq ?? cursor;
        // A complete list counts when it is complete.
        if (!seen) this._move(cursor);
      } while (frame.has_more);
      if (seen) this._forget(seen, began);
      this._move(cursor);
      for (const one of this._session._known.values()) if (one._stale) void this._pull(one);
    } while (this._syncAgain);
  }

  private _move(cursor: number): void {
    this._position = cursor;
    this._moved();
  }

  /** A complete list has come: what is not in it is no more, unless it changed meanwhile or is being sent to. */
  private _forget(seen: ReadonlySet<string>, began: number): void {
    for (const one of this._session._known.values()) {
      if (!seen.has(one.id) && one._info.touched < began && one._outbox._items.length === 0) one._forget();
    }
  }

  private async _runPull(conversation: ConversationState): Promise<void> {
    const { _timeline: timeline } = conversation;
    while (conversation._stale && timeline._loaded) {
      conversation._stale = false;
      for (let more = true; more && timeline._loaded; ) {
        const after = timeline.cursor;
        const { lastSeq: upTo } = conversation;
        const frame = await this._read(
          { cmd: CMD_PULL, cursor_seq: after, payload: { limit: PAGE_MAX } },
          conversation,
        );
        more = frame.code === 0 && frame.has_more === true;
        if (frame.code === 0) conversation._forward(after, frame.payload, frame.next_cursor_seq ?? after, upTo);
        // Not a member any more: the event or the next sync says so as well.
        else if (frame.code === 403 || frame.code === 404) conversation._gone();
      }
    }
  }

  private async _runOpen(conversation: ConversationState): Promise<void> {
    for (;;) {
      await this._session._untilOnline();
      try {
        if (!conversation._timeline._loaded) {
          const payload = { limit: this._session._limits._pageSize, direction: "backward" };
          const { lastSeq: upTo } = conversation;
          const frame = must(await this._read({ cmd: CMD_PULL, payload }, conversation));
          conversation._newest(frame.payload, frame.has_more === true, upTo);
        }
        const missing = this._session._limits._pageSize - conversation._timeline.shown.length;
        if (missing > 0 && conversation._timeline._hasOlder) await this._older(conversation, missing);
        // Only a forward pull promises that nothing appears at or below its cursor.
        await this._pull(conversation);
        return;
      } catch (error) {
        if (!(error instanceof ImError) || error.code !== 0) throw error;
      }
    }
  }

  /** A read, repeated after the delay that the server asks for. Rejects if the connection is lost. */
  async _read(request: Request, conversation?: ConversationState): Promise<Frame> {
    const backoff = new Backoff();
    for (;;) {
      if (this._free > 0) this._free--;
      else await new Promise<void>((resolve) => this._queue.push(resolve));
      let frame: Frame;
      try {
        frame = await (conversation ? conversation._request(request) : this._session._request(request));
      } finally {
        const next = this._queue.shift();
        if (next) next();
        else this._free++;
      }
      if (!mayRetry(frame)) return frame;
      await sleep(delayOf(frame, backoff));
    }
  }
}

const mayRetry = (frame: Frame): boolean => frame.code === 429 || frame.code === 500 || frame.code === 503;

/** The frame of a request that was done. Throws {@link ImError} if it was refused. */
export function must(frame: Frame): Frame {
  if (frame.code === 0) return frame;
  throw errorOf(refusal(frame), retryAfter(frame));
}

/** Pulls, syncs and read positions: everything that reads from the server, four requests at a time. */

import { Backoff, delayOf, sleep } from "./backoff.js";
import type { ConversationState } from "./conversation.js";
import { type Http, segment } from "./http.js";
import type { Session } from "./session.js";
import { ImError } from "./types.js";
import { Cmd, type Frame, type Request, refusal, retryAfter, type SyncEntry } from "./wire.js";

/** The server serves four reads of a user at once; more would wait there. */
const READS_AT_ONCE = 4;
/** The largest page of a pull or sync. */
const PAGE_MAX = 500;
/** Requests to sync at about the same time become one. */
const SYNC_SOON_MS = 1_000;
/** The shortest time between two read positions of a conversation. */
const ACK_EVERY_MS = 250;

/** A message that another tab sent is looked for after this time, and then less often. */
const REACH_AFTER_MS = 150;

/** What the reader remembers of a conversation. */
interface Reading {
  pulling: Promise<void> | undefined;
  opening: Promise<void> | undefined;
  acking: boolean;
}

export class Reader {
  /** Where the last sync ended. Undefined: there was none. */
  position: number | undefined;
  private syncing: Promise<void> | undefined;
  private syncAgain = false;
  private soon: ReturnType<typeof setTimeout> | undefined;
  private free = READS_AT_ONCE;
  private readonly queue: (() => void)[] = [];
  private readonly states = new WeakMap<ConversationState, Reading>();

  constructor(
    private readonly session: Session,
    private readonly http: Http,
    /** The position is to be kept. */
    private readonly moved: () => void,
  ) {}

  /** Syncs from the last position; joins the one that runs, which goes once more. Rejects if the connection is lost. */
  sync(): Promise<void> {
    if (this.syncing) {
      this.syncAgain = true;
      return this.syncing;
    }
    this.syncing = this.runSync().finally(() => {
      this.syncing = undefined;
    });
    return this.syncing;
  }

  /** Syncs in a moment. */
  syncSoon(): void {
    this.soon ??= setTimeout(() => {
      this.soon = undefined;
      if (this.session.online) this.sync().catch(() => undefined);
    }, SYNC_SOON_MS);
  }

  /** The answer to a heartbeat that named the position: another one means that something was missed. */
  heard(position: number | undefined): void {
    if (position === undefined || this.position === undefined || position === this.position) return;
    this.sync().catch(() => undefined);
  }

  /** Closes the gap at the new end. */
  pull(conversation: ConversationState): Promise<void> {
    conversation.stale = true;
    const state = this.state(conversation);
    state.pulling ??= this.runPull(conversation)
      .catch(() => {
        // The connection is lost: the next login pulls what is stale.
        conversation.stale = true;
      })
      .finally(() => {
        state.pulling = undefined;
      });
    return state.pulling;
  }

  /** Brings a conversation up to date: its window, or the newest page. */
  async refresh(conversation: ConversationState): Promise<void> {
    if (conversation.timeline.loaded) await this.pull(conversation);
    else await this.open(conversation).catch(() => undefined);
  }

  /** Another tab sent this message over the same connection: it is not pushed, and is stored within moments. */
  async reach(conversation: ConversationState, seq: number): Promise<void> {
    if (!conversation.timeline.loaded) return this.syncSoon();
    for (let delay = REACH_AFTER_MS; delay < 100 * REACH_AFTER_MS && conversation.timeline.cursor < seq; delay *= 3) {
      await sleep(delay);
      await this.pull(conversation);
    }
  }

  /** Loads the newest page, and what came after it. Waits for a connection. */
  open(conversation: ConversationState): Promise<void> {
    const state = this.state(conversation);
    state.opening ??= this.runOpen(conversation).finally(() => {
      state.opening = undefined;
    });
    return state.opening;
  }

  /** Loads a page before the window. */
  async older(conversation: ConversationState, limit = this.session.limits.pageSize): Promise<number> {
    await this.session.untilOnline();
    const { timeline } = conversation;
    if (!timeline.loaded || !timeline.hasOlder) return 0;
    const before = timeline.from;
    const payload = { limit: Math.max(1, Math.min(limit, PAGE_MAX)), direction: "backward" };
    const frame = await this.read({ cmd: Cmd.Pull, cursor_seq: before, payload }, conversation);
    return conversation.older(before, must(frame).payload, frame.has_more === true);
  }

  /** Sends the read position until it is answered. */
  async ack(conversation: ConversationState): Promise<void> {
    const state = this.state(conversation);
    const { info } = conversation;
    if (state.acking) return;
    state.acking = true;
    const backoff = new Backoff();
    try {
      while (info.readPending !== undefined && this.session.online) {
        const seq = info.readPending;
        const frame = await conversation.request({ cmd: Cmd.Ack, cursor_seq: seq });
        if (mayRetry(frame)) {
          await sleep(delayOf(frame, backoff));
          continue;
        }
        if (info.readPending === seq) delete info.readPending;
        await sleep(ACK_EVERY_MS);
      }
    } catch {
      // The connection is lost: the next login begins again.
    } finally {
      state.acking = false;
    }
  }

  /** How far each member has read. */
  positions(
    conversation: ConversationState,
    cursor?: string,
    limit?: number,
  ): Promise<{ positions: { user_id: string; seq: number }[]; next_cursor?: string }> {
    const { peer } = conversation.info;
    const id = peer === undefined ? segment(conversation.id) : "-";
    return this.http.call("GET", `/api/conversations/${id}/positions`, undefined, { to: peer, cursor, limit });
  }

  private async runSync(): Promise<void> {
    do {
      this.syncAgain = false;
      const began = this.session.nextTouch();
      let seen: Set<string> | undefined;
      let cursor = this.position ?? 0;
      let frame: Frame;
      do {
        frame = must(await this.read({ cmd: Cmd.Sync, cursor_seq: cursor, payload: { limit: PAGE_MAX } }));
        if (frame.reset) seen = new Set();
        for (const entry of frame.payload as SyncEntry[]) {
          seen?.add(entry.conversation_id);
          this.session.get(entry.conversation_id, entry.peer).entry(entry);
        }
        cursor = frame.next_cursor_seq ?? cursor;
        // A complete list counts when it is complete.
        if (!seen) this.move(cursor);
      } while (frame.has_more);
      if (seen) this.forget(seen, began);
      this.move(cursor);
      for (const one of this.session.conversations.values()) if (one.stale) void this.pull(one);
    } while (this.syncAgain);
  }

  private move(cursor: number): void {
    this.position = cursor;
    this.moved();
  }

  /** A complete list has come: what is not in it is no more, unless it changed meanwhile or is being sent to. */
  private forget(seen: ReadonlySet<string>, began: number): void {
    for (const one of this.session.conversations.values()) {
      if (!seen.has(one.id) && one.info.touched < began && one.outbox.items.length === 0) one.forget();
    }
  }

  private async runPull(conversation: ConversationState): Promise<void> {
    const { timeline } = conversation;
    while (conversation.stale && timeline.loaded) {
      conversation.stale = false;
      for (let more = true; more && timeline.loaded; ) {
        const after = timeline.cursor;
        const frame = await this.read({ cmd: Cmd.Pull, cursor_seq: after, payload: { limit: PAGE_MAX } }, conversation);
        more = frame.code === 0 && frame.has_more === true;
        if (frame.code === 0) conversation.forward(after, frame.payload, frame.next_cursor_seq ?? after);
        // Not a member any more: the event or the next sync says so as well.
        else if (frame.code === 403 || frame.code === 404) conversation.gone();
      }
    }
  }

  private async runOpen(conversation: ConversationState): Promise<void> {
    for (;;) {
      await this.session.untilOnline();
      try {
        if (!conversation.timeline.loaded) {
          const payload = { limit: this.session.limits.pageSize, direction: "backward" };
          const frame = must(await this.read({ cmd: Cmd.Pull, payload }, conversation));
          conversation.newest(frame.payload, frame.has_more === true);
        }
        const missing = this.session.limits.pageSize - conversation.timeline.shown.length;
        if (missing > 0 && conversation.timeline.hasOlder) await this.older(conversation, missing);
        // Only a forward pull promises that nothing appears at or below its cursor.
        await this.pull(conversation);
        return;
      } catch (error) {
        if (!(error instanceof ImError) || error.code !== 0) throw error;
      }
    }
  }

  /** A read, repeated after the delay that the server asks for. Rejects if the connection is lost. */
  private async read(request: Request, conversation?: ConversationState): Promise<Frame> {
    const backoff = new Backoff();
    for (;;) {
      if (this.free > 0) this.free--;
      else await new Promise<void>((resolve) => this.queue.push(resolve));
      let frame: Frame;
      try {
        frame = await (conversation ? conversation.request(request) : this.session.request(request));
      } finally {
        const next = this.queue.shift();
        if (next) next();
        else this.free++;
      }
      if (!mayRetry(frame)) return frame;
      await sleep(delayOf(frame, backoff));
    }
  }

  private state(conversation: ConversationState): Reading {
    let state = this.states.get(conversation);
    if (!state) {
      state = { pulling: undefined, opening: undefined, acking: false };
      this.states.set(conversation, state);
    }
    return state;
  }
}

const mayRetry = (frame: Frame): boolean => frame.code === 429 || frame.code === 500 || frame.code === 503;

function must(frame: Frame): Frame {
  if (frame.code === 0) return frame;
  const { code, message } = refusal(frame);
  throw new ImError(code, message, retryAfter(frame));
}

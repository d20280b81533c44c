/** A part of a conversation that is away from its newest messages. */

import type { ConversationState } from "./conversation.js";
import { must } from "./reader.js";
import { changeOf, Timeline } from "./timeline.js";
import type { Conversation, Message } from "./types.js";
import { CMD_PULL, isChange, type WireMessage } from "./wire.js";

/**
 * The messages around one message, for a jump to it: `new Excerpt(conversation)`. It grows at both ends, follows changes
 * of its messages, and becomes a part of the conversation's window when it reaches it. `close` it when it is not shown
 * any more. Open the conversation first.
 */
export class Excerpt {
  private readonly _conversation: ConversationState;
  private readonly _timeline: Timeline;
  private _cached: readonly Message[] = [];
  /** For each page that is asked for: the entries that came meanwhile. */
  private readonly _asked = new Set<WireMessage[]>();
  private _joined = false;

  constructor(
    conversation: Conversation,
    /** Called after each change. */
    private readonly _changed: () => void = () => undefined,
  ) {
    this._conversation = conversation as ConversationState;
    this._timeline = new Timeline(conversation.id, this._conversation._session.userId);
    this._conversation._excerpts.add(this._hear);
  }

  /** Rising by `seq`. Another array after each change. */
  get messages(): readonly Message[] {
    return this._joined ? this._conversation.messages : this._cached;
  }

  /** There is more before it. */
  get hasOlder(): boolean {
    return this._joined ? this._conversation.hasOlder : this._timeline._hasOlder;
  }

  /** There is more after it. False: it has become a part of the conversation's window, which is shown from now on. */
  get hasNewer(): boolean {
    return !this._joined;
  }

  /** Loads the messages around this one: `limit` before it, and as many from it on. */
  async open(seq: number, limit = 50): Promise<void> {
    this._timeline._begin(seq - 1);
    await this.loadNewer(limit);
    await this.loadOlder(limit);
  }

  /** Extends it by a page at its beginning. */
  async loadOlder(limit = 50): Promise<void> {
    if (this._joined) return void (await this._conversation.loadOlder(limit));
    const { _timeline: timeline } = this;
    if (!timeline._hasOlder) return;
    const before = timeline.from;
    await this._load({ limit, direction: "backward" }, before, (page, _, more, upTo) =>
      timeline._older(before, page, more, upTo),
    );
  }

  /** Extends it by a page at its end. */
  async loadNewer(limit = 50): Promise<void> {
    if (this._joined) return;
    const { _timeline: timeline } = this;
    const after = timeline.cursor;
    await this._load({ limit }, after, (page, next, _, upTo) => timeline._forward(after, page, next, upTo));
  }

  /** Ends it. */
  close(): void {
    this._conversation._excerpts.delete(this._hear);
  }

  private async _load(
    payload: object,
    cursor: number,
    apply: (page: WireMessage[], next: number, more: boolean, upTo: number) => void,
  ): Promise<void> {
    const { _conversation: conversation } = this;
    const { lastSeq: upTo } = conversation;
    await conversation._session._untilOnline();
    const request = { cmd: CMD_PULL, cursor_seq: cursor, payload };
    const meanwhile: WireMessage[] = [];
    this._asked.add(meanwhile);
    const read = conversation._reader._read(request, conversation).finally(() => this._asked.delete(meanwhile));
    const frame = must(await read);
    apply(frame.payload, frame.next_cursor_seq ?? cursor, frame.has_more === true, upTo);
    this._apply(meanwhile);
    if (conversation._join(this._timeline)) {
      this._joined = true;
      this.close();
    }
    this._tell();
  }

  private readonly _hear = (entries: readonly WireMessage[]): void => {
    for (const meanwhile of this._asked) meanwhile.push(...entries);
    if (this._apply(entries)) this._tell();
  };

  private _apply(entries: readonly WireMessage[]): boolean {
    const changes = entries.filter((entry) => isChange(entry.msg_type));
    for (const entry of changes) this._timeline._apply(changeOf(entry));
    return changes.length > 0;
  }

  private _tell(): void {
    this._cached = [...this._timeline.shown];
    this._changed();
  }
}

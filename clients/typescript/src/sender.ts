/** Sends what is in the outbox, and makes sure of what was accepted. */

import { delayOf, sleep } from "./backoff.js";
import type { ConversationState } from "./conversation.js";
import { newId } from "./ids.js";
import { echo, type OutboxItem } from "./outbox.js";
import type { Session } from "./session.js";
import { ImError, type Message, type Sent } from "./types.js";
import { CMD_CHAT, errorOf, FRAME_BYTES_MAX, type Frame, type Payload, type Request } from "./wire.js";

/** Messages that wait; more are refused. */
const OUTBOX_MAX = 10_000;
/** An accepted message is stored within moments; a pull shows it. The time doubles with each pull that does not. */
const CONFIRM_AFTER_MS = 150;
/** Pulls that do not show an accepted message before it is sent again; the answer has its state. */
const PULLS_BEFORE_RESEND = 5;

/** What `send` returns. */
export class SentHandle implements Sent {
  private _waiting: { stored: boolean; resolve(message: Message): void; reject(error: Error): void }[] = [];

  constructor(public message: Message) {}

  accepted(): Promise<Message> {
    return this._reached(false);
  }

  stored(): Promise<Message> {
    return this._reached(true);
  }

  _update(message: Message): void {
    this.message = message;
    for (const one of this._waiting.splice(0)) this._settle(one);
  }

  private _reached(stored: boolean): Promise<Message> {
    return new Promise((resolve, reject) => this._settle({ stored, resolve, reject }));
  }

  private _settle(one: (typeof this._waiting)[number]): void {
    const { message } = this;
    if (message.state === "failed") {
      one.reject(errorOf(message.error ?? { code: 0, message: "the message was discarded" }));
    } else if (message.state === "stored" || (message.state === "accepted" && !one.stored)) one.resolve(message);
    else this._waiting.push(one);
  }
}

export class Sender {
  /** Requests in flight that are answered at the commit. */
  private readonly _storedAsked = new Set<OutboxItem>();
  private _order = 0;
  /** Items in all outboxes. */
  _waiting = 0;

  constructor(private readonly _session: Session) {}

  /** Hands a message over. Throws if it cannot be sent at all. */
  _add(conversation: ConversationState, payload: Payload, msgId = newId()): Sent {
    if (this._waiting >= OUTBOX_MAX) throw new ImError(429, `${OUTBOX_MAX} messages wait to be sent`);
    const known = conversation._outbox._get(msgId);
    if (known) return this._handle(conversation, known);
    const order = Math.max(this._order + 1, Date.now() * 1_000);
    const item: OutboxItem = {
      conversationId: conversation.id,
      peer: conversation.peer,
      msgId,
      order,
      payload,
      owner: this._session._owner,
      state: "sending",
      seq: 0,
    };
    if (new TextEncoder().encode(JSON.stringify(chat(item, true))).length > FRAME_BYTES_MAX - 256) {
      throw new ImError(413, "the message is over 64 KiB");
    }
    this._restore(conversation, item);
    conversation._info.listed = true;
    conversation._info.touched = this._session._nextTouch();
    const handle = this._handle(conversation, item);
    conversation._itemChanged(item);
    void this._pump(conversation);
    return handle;
  }

  /** Takes an item of an earlier run, or of another tab. */
  _restore(conversation: ConversationState, item: OutboxItem): void {
    this._waiting++;
    this._order = Math.max(this._order, item.order);
    conversation._outbox._add(item);
  }

  /** Removes an item that will not be sent any more. */
  _drop(conversation: ConversationState, item: OutboxItem): void {
    conversation._itemRemoved(item);
    conversation._handles.get(item.msgId)?._update({ ...echo(item, this._session.userId), state: "failed" });
    conversation._handles.delete(item.msgId);
  }

  /** After the first sync: asks what became of what was accepted. */
  _check(conversation: ConversationState): void {
    if (conversation._outbox._unconfirmed(this._session._owner).length === 0) return;
    conversation._pulls = PULLS_BEFORE_RESEND;
    this._confirm(conversation);
  }

  /** A reply of cmd 2. */
  _reply(frame: Frame): void {
    const conversation = this._session._known.get(frame.conversation_id ?? "") ?? this._owning(frame.msg_id);
    conversation?._reply(frame, (item) => this._storedAsked.has(item));
  }

  /** Something was accepted: looks soon whether the conversation has it. */
  _confirm(conversation: ConversationState): void {
    if (conversation._confirming) return;
    conversation._confirming = true;
    const delay = CONFIRM_AFTER_MS * 2 ** (conversation._pulls % PULLS_BEFORE_RESEND);
    setTimeout(async () => {
      await this._look(conversation);
      conversation._confirming = false;
      if (conversation._outbox._unconfirmed(this._session._owner).length === 0) conversation._pulls = 0;
      else if (this._session._online) this._confirm(conversation);
    }, delay);
  }

  private async _look(conversation: ConversationState): Promise<void> {
    const open = () => conversation._outbox._unconfirmed(this._session._owner);
    if (open().length === 0 || !this._session._online) return;
    await conversation._reader._refresh(conversation);
    if (open().length === 0 || ++conversation._pulls <= PULLS_BEFORE_RESEND) return;
    // Retries are free: the reply says where it is stored, or why it is not.
    conversation._pulls = 0;
    for (const item of open()) {
      this._storedAsked.add(item);
      try {
        await conversation._request(chat(item, true));
      } catch {
        return;
      } finally {
        this._storedAsked.delete(item);
      }
    }
    await conversation._reader._refresh(conversation);
  }

  /** Sends what waits, one message after the other. */
  async _pump(conversation: ConversationState): Promise<void> {
    if (conversation._pumping) return;
    conversation._pumping = true;
    try {
      for (;;) {
        const item = conversation._outbox._next(this._session._owner);
        if (!item || !this._session._online) return;
        // `reply` applies the answer before this goes on.
        const frame = await conversation._request(chat(item, false));
        // Accepted but still "sending": a pull showed it before the answer came, and it left the outbox.
        const refused = item.state === "sending" && frame.code !== 0;
        if (refused) await sleep(delayOf(frame, conversation._backoff));
        else conversation._backoff._reset();
      }
    } catch {
      // The connection is lost: the next login begins again.
    } finally {
      conversation._pumping = false;
    }
  }

  private _handle(conversation: ConversationState, item: OutboxItem): SentHandle {
    let handle = conversation._handles.get(item.msgId);
    if (!handle) {
      handle = new SentHandle(echo(item, this._session.userId));
      if (item.state !== "failed") conversation._handles.set(item.msgId, handle);
    }
    return handle;
  }

  private _owning(msgId: string | undefined): ConversationState | undefined {
    if (msgId === undefined) return undefined;
    return [...this._session._known.values()].find((one) => one._outbox._get(msgId));
  }
}

function chat(item: OutboxItem, stored: boolean): Request {
  // The server knows what the files are; the rest of an attachment is for the local echo.
  const attachments = item.payload.attachments?.map(({ file_id }) => ({ file_id }));
  const payload = { ...item.payload, attachments, ack: stored ? "stored" : undefined };
  return { cmd: CMD_CHAT, msg_id: item.msgId, payload };
}

/** Sends what is in the outbox, and makes sure of what was accepted. */

import { Backoff, delayOf, sleep } from "./backoff.js";
import type { ConversationState } from "./conversation.js";
import { newId } from "./ids.js";
import { echo, type OutboxItem } from "./outbox.js";
import type { Session } from "./session.js";
import { ImError, type Message, type Sent } from "./types.js";
import { Cmd, FRAME_BYTES_MAX, type Frame, type Request, type WireMessage } from "./wire.js";

/** Messages that wait; more are refused. */
const OUTBOX_MAX = 10_000;
/** An accepted message is stored within moments; a pull shows it. */
const CONFIRM_AFTER_MS = 150;
const CONFIRM_MOST_MS = 10_000;
/** Pulls that do not show an accepted message before it is sent again; the answer has its state. */
const PULLS_BEFORE_RESEND = 5;

/** What `send` returns. */
export class SentHandle implements Sent {
  private waiting: { stored: boolean; resolve(message: Message): void; reject(error: Error): void }[] = [];

  constructor(public message: Message) {}

  accepted(): Promise<Message> {
    return this.reached(false);
  }

  stored(): Promise<Message> {
    return this.reached(true);
  }

  update(message: Message): void {
    this.message = message;
    const { waiting } = this;
    this.waiting = [];
    for (const one of waiting) this.settle(one);
  }

  private reached(stored: boolean): Promise<Message> {
    return new Promise((resolve, reject) => this.settle({ stored, resolve, reject }));
  }

  private settle(one: (typeof this.waiting)[number]): void {
    const { message } = this;
    if (message.state === "failed") {
      one.reject(new ImError(message.error?.code ?? 0, message.error?.message ?? "the message was discarded"));
    } else if (message.state === "stored" || (message.state === "accepted" && !one.stored)) one.resolve(message);
    else this.waiting.push(one);
  }
}

/** What the sender remembers of a conversation. */
interface Sending {
  pumping: boolean;
  backoff: Backoff;
  timer: ReturnType<typeof setTimeout> | undefined;
  pulls: number;
}

export class Sender {
  private readonly states = new WeakMap<ConversationState, Sending>();
  /** Requests in flight that are answered at the commit. */
  private readonly storedAsked = new Set<OutboxItem>();
  private order = 0;
  private waiting = 0;

  constructor(private readonly session: Session) {}

  /** Hands a message over. Throws if it cannot be sent at all. */
  add(conversation: ConversationState, payload: Partial<WireMessage>, id?: string): Sent {
    if (this.waiting >= OUTBOX_MAX) throw new ImError(429, `${OUTBOX_MAX} messages wait to be sent`);
    const msgId = id ?? newId();
    const known = conversation.outbox.get(msgId);
    if (known) return this.handle(conversation, known);
    const order = Math.max(this.order + 1, Date.now() * 1_000);
    const { peer } = conversation.info;
    const item: OutboxItem = {
      conversationId: conversation.id,
      ...(peer !== undefined && { peer }),
      msgId,
      order,
      payload,
      owner: this.session.owner,
      state: "sending",
      seq: 0,
    };
    if (new TextEncoder().encode(JSON.stringify(chat(item, true))).length > FRAME_BYTES_MAX - 256) {
      throw new ImError(413, "the message is larger than a frame of 64 KiB");
    }
    this.restore(conversation, item);
    conversation.info.listed = true;
    conversation.info.touched = this.session.nextTouch();
    const handle = this.handle(conversation, item);
    conversation.itemChanged(item);
    void this.pump(conversation);
    return handle;
  }

  /** Takes an item of an earlier run, or of another tab. */
  restore(conversation: ConversationState, item: OutboxItem): void {
    this.waiting++;
    this.order = Math.max(this.order, item.order);
    conversation.outbox.add(item);
  }

  /** Removes an item that will not be sent any more. */
  drop(conversation: ConversationState, item: OutboxItem): void {
    conversation.itemRemoved(item);
    conversation.handles.get(item.msgId)?.update({ ...echo(item, this.session.me), state: "failed" });
    conversation.handles.delete(item.msgId);
  }

  /** One item less. */
  removed(): void {
    this.waiting--;
  }

  /** After a login: sends what waits. */
  resume(conversation: ConversationState): void {
    void this.pump(conversation);
  }

  /** After the first sync: asks what became of what was accepted. */
  check(conversation: ConversationState): void {
    if (conversation.outbox.unconfirmed(this.session.owner).length === 0) return;
    this.state(conversation).pulls = PULLS_BEFORE_RESEND;
    this.confirm(conversation);
  }

  /** A reply of cmd 2. */
  reply(frame: Frame): void {
    const conversation = this.session.conversations.get(frame.conversation_id ?? "") ?? this.owning(frame.msg_id);
    conversation?.reply(frame, (item) => this.storedAsked.has(item));
  }

  /** Something was accepted: looks soon whether the conversation has it. */
  confirm(conversation: ConversationState): void {
    const state = this.state(conversation);
    if (state.timer !== undefined) return;
    const delay = Math.min(CONFIRM_MOST_MS, CONFIRM_AFTER_MS * 2 ** state.pulls);
    state.timer = setTimeout(
      async () => {
        await this.look(conversation, state);
        state.timer = undefined;
        if (conversation.outbox.unconfirmed(this.session.owner).length === 0) state.pulls = 0;
        else if (this.session.online) this.confirm(conversation);
      },
      state.pulls >= PULLS_BEFORE_RESEND ? CONFIRM_AFTER_MS : delay,
    );
  }

  private async look(conversation: ConversationState, state: Sending): Promise<void> {
    const open = () => conversation.outbox.unconfirmed(this.session.owner);
    if (open().length === 0 || !this.session.online) return;
    await conversation.reader.refresh(conversation);
    if (open().length === 0 || ++state.pulls <= PULLS_BEFORE_RESEND) return;
    // Retries are free: the reply says where it is stored, or why it is not.
    state.pulls = 0;
    for (const item of open()) {
      this.storedAsked.add(item);
      try {
        await conversation.request(chat(item, true));
      } catch {
        return;
      } finally {
        this.storedAsked.delete(item);
      }
    }
    await conversation.reader.refresh(conversation);
  }

  private async pump(conversation: ConversationState): Promise<void> {
    const state = this.state(conversation);
    if (state.pumping) return;
    state.pumping = true;
    try {
      for (;;) {
        const item = conversation.outbox.next(this.session.owner);
        if (!item || !this.session.online) return;
        // `reply` applies the answer before this goes on.
        const frame = await conversation.request(chat(item, false));
        if (item.state === "sending") await sleep(delayOf(frame, state.backoff));
        else state.backoff.reset();
      }
    } catch {
      // The connection is lost: the next login begins again.
    } finally {
      state.pumping = false;
    }
  }

  private handle(conversation: ConversationState, item: OutboxItem): SentHandle {
    let handle = conversation.handles.get(item.msgId);
    if (!handle) {
      handle = new SentHandle(echo(item, this.session.me));
      if (item.state !== "failed") conversation.handles.set(item.msgId, handle);
    }
    return handle;
  }

  private owning(msgId: string | undefined): ConversationState | undefined {
    if (msgId === undefined) return undefined;
    return [...this.session.conversations.values()].find((one) => one.outbox.get(msgId));
  }

  private state(conversation: ConversationState): Sending {
    let state = this.states.get(conversation);
    if (!state) {
      state = { pumping: false, backoff: new Backoff(), timer: undefined, pulls: 0 };
      this.states.set(conversation, state);
    }
    return state;
  }
}

function chat(item: OutboxItem, stored: boolean): Request {
  const payload = stored ? { ...item.payload, ack: "stored" } : item.payload;
  return { cmd: Cmd.Chat, msg_id: item.msgId, payload };
}

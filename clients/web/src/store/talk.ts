/** What belongs to the conversation that is shown: what the composer does, pins, quoted messages, members. */

import type { Attachment, Conversation, Member, Message } from "im-client";
import {
  type Accessor,
  createEffect,
  createMemo,
  createSignal,
  on,
  onCleanup,
  type Setter,
  type Signal,
  untrack,
} from "solid-js";
import { kindOf } from "../lib/files.ts";
import type { Chat } from "./chat.ts";
import { SYSTEM } from "./timeline.ts";

/** What the next message is: an answer, or the new text of an own one. */
export interface Target {
  readonly kind: "reply" | "edit";
  readonly message: Message;
}

/** A picture of a message. */
export interface Picture {
  readonly file: Attachment;
  readonly message: Message;
}

/** Several changes of pins in a moment are one question. */
const PINS_AFTER_MS = 200;
/** Members that can be completed; in larger groups the first ones by id. */
const MEMBERS_PAGES = 4;
/** How long an own message may be edited, by default. */
const EDIT_MS = 86_400_000;

/** Can be edited: texts, captions, and messages of apps that have a text. */
const isText = ({ msgType, content }: Message): boolean => msgType === 1 || (content !== "" && msgType !== SYSTEM);

export class Talk {
  readonly target: Accessor<Target | undefined>;
  readonly setTarget: Setter<Target | undefined>;
  /** The pinned messages, the newest pin first. */
  readonly pins: Accessor<readonly Message[]>;
  readonly members: Accessor<readonly Member[]>;
  /** The file that the gallery shows. */
  readonly picture: Accessor<string | undefined>;
  readonly setPicture: Setter<string | undefined>;
  /** Shows this message, wherever it is in the conversation. */
  jump: (seq: number) => void = () => {};
  /** Messages that are shown beside those of the conversation's window. */
  others: () => readonly Message[] = () => [];
  private readonly isMember: Accessor<boolean>;
  private readonly setPins: Setter<readonly Message[]>;
  private readonly setMembers: Setter<readonly Member[]>;
  private readonly quotes = new Map<number, Signal<Message | null | undefined>>();
  private asked = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly chat: Chat,
    readonly conversation: Conversation,
  ) {
    this.isMember = createMemo(() => chat.of(conversation).member);
    [this.target, this.setTarget] = createSignal<Target | undefined>(undefined);
    [this.picture, this.setPicture] = createSignal<string | undefined>(undefined);
    [this.pins, this.setPins] = createSignal<readonly Message[]>([]);
    [this.members, this.setMembers] = createSignal<readonly Member[]>([]);
    const offs = [
      chat.client.on("pin", ({ conversationId }) => {
        if (conversationId === conversation.id) this.loadPinsSoon();
      }),
      chat.client.on("group", ({ conversationId }) => {
        if (conversationId === conversation.id) this.forgetMembers();
      }),
      chat.client.on("messages", ({ conversation: { id }, messages }) => {
        if (id === conversation.id && messages.some(({ msgType }) => msgType === SYSTEM)) this.forgetMembers();
      }),
    ];
    // What was pinned while there was no connection is found after it.
    createEffect(
      on([() => chat.connection().synced, chat.features], ([synced]) => {
        if (synced) this.loadPinsSoon();
      }),
    );
    onCleanup(() => {
      for (const off of offs) off();
      clearTimeout(this.timer);
    });
  }

  has(feature: string): boolean {
    return this.chat.features().has(feature);
  }

  private role(): "owner" | "admin" | "member" | undefined {
    const { conversation, chat } = this;
    return conversation.kind === "group" ? chat.directory.group(conversation.id)?.role : undefined;
  }

  /** Owner and admins of a group; both sides of a private chat. */
  get isAdmin(): boolean {
    return this.conversation.kind === "private" || ["owner", "admin"].includes(this.role() ?? "");
  }

  /** A message that others have as well, and that is not recalled. */
  isThere(message: Message): boolean {
    return message.state === "stored" && !message.recalled && this.isMember();
  }

  mayEdit(message: Message): boolean {
    const age = Date.now() + this.chat.clockOffset() - message.sendTime;
    return this.has("edit") && message.mine && this.isThere(message) && isText(message) && age < EDIT_MS;
  }

  mayPin(message: Message): boolean {
    return this.has("pins") && this.isAdmin && this.isThere(message);
  }

  isPinned(message: Message): boolean {
    return this.pins().some(({ seq }) => seq === message.seq);
  }

  /** Edits the newest own message. Returns false if the conversation has no own message. */
  editLast(): boolean {
    const message = this.conversation.messages.findLast((one) => this.mayEdit(one));
    if (message) this.setTarget({ kind: "edit", message });
    return message !== undefined;
  }

  /** A message that is loaded. */
  here(seq: number): Message | undefined {
    const { messages } = this.chat.of(this.conversation);
    return messages.find((one) => one.seq === seq) ?? this.others().find((one) => one.seq === seq);
  }

  /** All pictures that are loaded, in the order of their messages. */
  pictures(): Picture[] {
    const { messages } = this.chat.of(this.conversation);
    const others = this.others();
    const all =
      others.length > 0 && (others[0]?.seq ?? 0) < (messages[0]?.seq ?? 0) ? [...others, ...messages] : messages;
    return all.flatMap((message) =>
      (message.attachments ?? [])
        .filter(({ content_type }) => kindOf(content_type) === "picture")
        .map((file) => ({ file, message })),
    );
  }

  /** The message with this number: a loaded one, or one request to the server. Null if it does not exist or may not be seen. */
  quoted(seq: number): Message | null | undefined {
    const here = this.here(seq);
    if (here) return here;
    let signal = this.quotes.get(seq);
    if (!signal) {
      signal = createSignal<Message | null | undefined>(undefined);
      this.quotes.set(seq, signal);
      const [, set] = signal;
      this.conversation.message(seq).then(
        (message) => set(message),
        () => set(null),
      );
    }
    return signal[0]();
  }

  /** Asks for the members, for completion. */
  loadMembers(): void {
    if (this.asked || this.conversation.kind !== "group") return;
    this.asked = true;
    void this.readMembers();
  }

  private forgetMembers(): void {
    const wasAsked = this.asked;
    this.asked = false;
    if (wasAsked) this.loadMembers();
  }

  private async readMembers(): Promise<void> {
    try {
      const found: Member[] = [];
      let cursor: string | undefined;
      for (let page = 0; page < MEMBERS_PAGES; page++) {
        const answer = await this.chat.client.groups.members(this.conversation.id, cursor, 500);
        found.push(...answer.members);
        cursor = answer.next_cursor;
        if (cursor === undefined) break;
      }
      this.setMembers(found);
    } catch {
      // The next `@` asks again.
      this.asked = false;
    }
  }

  private loadPinsSoon(): void {
    if (!untrack(() => this.has("pins"))) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.conversation.pins().then(this.setPins, () => {});
    }, PINS_AFTER_MS);
  }
}

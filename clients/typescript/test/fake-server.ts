/** A server in memory that follows the protocol, and a network that loses what the protocol allows to be lost. */

import type { Attachment, ConversationSettings, WebSocketLike } from "../src/index.js";
import type { Frame, Request, SyncEntry, WireMessage } from "../src/wire.js";
import { isCounted, privateId } from "../src/wire.js";

/** How much goes wrong, as probabilities. */
export interface Faults {
  /** A push is lost. */
  push: number;
  /** A request ends the connection, before or after it was done. */
  cut: number;
  /** 503 instead of doing it. */
  overload: number;
  /** A message gets another number at its commit. */
  renumber: number;
  /** A message is refused at its commit. */
  refuse: number;
  /** A number is skipped. */
  skip: number;
}

export const NO_FAULTS: Faults = { push: 0, cut: 0, overload: 0, renumber: 0, refuse: 0, skip: 0 };

interface Accepted {
  message: WireMessage;
  origin: FakeSocket;
  stored: (() => void)[];
}

interface Room {
  id: string;
  members: string[];
  next: number;
  committed: WireMessage[];
  queue: Accepted[];
  ids: Map<string, { seq: number; state: "accepted" | "stored" | "refused" }>;
}

/** A repeatable generator of numbers from 0 to 1. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Refuses HTTP calls. */
export const noHttp = async (): Promise<Response> => new Response("{}", { status: 404 });

/** What a change does to a message, as the database has it. Returns false if it has no effect. */
function changed(target: WireMessage, change: WireMessage): boolean {
  if (target.recalled) return false;
  if (change.msg_type === 3) {
    Object.assign(target, { content: "", recalled: true });
    delete target.reactions;
    delete target.attachments;
  } else if (change.msg_type === 4) {
    Object.assign(target, { content: change.content, edited_at: change.send_time });
    if (change.mentions) target.mentions = change.mentions;
  } else if (change.msg_type === 5) {
    const all = target.reactions ?? [];
    const found = all.find((one) => one.reaction === change.reaction) ?? {
      reaction: change.reaction!,
      count: 0,
      user_ids: [],
    };
    if (found.user_ids.includes(change.sender_id) !== (change.remove === true)) return false;
    const user_ids = change.remove
      ? found.user_ids.filter((one) => one !== change.sender_id)
      : [...found.user_ids, change.sender_id];
    const others = all.filter((one) => one.reaction !== change.reaction);
    target.reactions = user_ids.length > 0 ? [...others, { ...found, count: user_ids.length, user_ids }] : others;
  }
  return true;
}

export class FakeServer {
  readonly rooms = new Map<string, Room>();
  readonly sockets = new Set<FakeSocket>();
  readonly read = new Map<string, number>();
  /** By user and conversation, like `read`. */
  readonly settings = new Map<string, ConversationSettings>();
  /** Conversation by user, with the version of its last change. */
  readonly inbox = new Map<string, Map<string, number>>();
  version = 0;
  faults: Faults = NO_FAULTS;
  /** What is known of a file that was uploaded. */
  attachment: (fileId: string) => Attachment = (file_id) => ({ file_id });
  /** All frames that clients sent. */
  readonly requests: Request[] = [];
  /** Answers a request instead of the server. */
  intercept: ((socket: FakeSocket, request: Request) => Frame | "silence" | undefined) | undefined;

  constructor(readonly random: () => number = Math.random) {}

  /** The constructor that a client connects with. */
  get socket(): new (
    url: string,
  ) => WebSocketLike {
    const server = this;
    return class extends FakeSocket {
      constructor(url: string) {
        super(server, url);
      }
    };
  }

  room(id: string, members?: string[]): Room {
    let room = this.rooms.get(id);
    if (!room) {
      room = { id, members: members ?? [], next: 1, committed: [], queue: [], ids: new Map() };
      this.rooms.set(id, room);
    }
    return room;
  }

  happens(fault: keyof Faults): boolean {
    return this.random() < this.faults[fault];
  }

  to(user: string, frame: Frame, except?: FakeSocket): void {
    for (const socket of this.sockets) if (socket.user === user && socket !== except) socket.deliver(frame);
  }

  /** Commits what was accepted longest ago in each conversation. */
  commit(): void {
    for (const room of this.rooms.values()) {
      const accepted = room.queue.shift();
      if (accepted) this.commitOne(room, accepted);
    }
  }

  private commitOne(room: Room, accepted: Accepted): void {
    const { message, origin } = accepted;
    const known = room.ids.get(`${message.sender_id} ${message.msg_id}`)!;
    if (this.happens("refuse")) {
      room.ids.delete(`${message.sender_id} ${message.msg_id}`);
      known.state = "refused";
      this.to(message.sender_id, {
        cmd: 2,
        code: 403,
        msg_id: message.msg_id,
        conversation_id: room.id,
        payload: "muted",
      });
      for (const told of accepted.stored) told();
      return;
    }
    // A message with a lower number than a committed one would stand behind cursors: it gets another number.
    const last = room.committed.at(-1)?.seq ?? 0;
    if (this.happens("renumber") || message.seq <= last) {
      message.seq = room.next++;
      known.seq = message.seq;
      room.queue.push(accepted);
      this.to(message.sender_id, {
        cmd: 2,
        code: 0,
        msg_id: message.msg_id,
        conversation_id: room.id,
        seq: message.seq,
      });
      return;
    }
    known.state = "stored";
    const { recall_seq, edit_seq, react_seq } = message;
    const target = room.committed.find((one) => one.seq === (recall_seq ?? edit_seq ?? react_seq));
    const hasEffect = target === undefined || changed(target, message);
    if (hasEffect || message.msg_type !== 5) room.committed.push(message);
    for (const told of accepted.stored) told();
    for (const user of hasEffect || message.msg_type !== 5 ? room.members : []) {
      this.touch(user, room.id);
      for (const socket of this.sockets) {
        if (socket.user !== user || socket === origin || this.happens("push")) continue;
        socket.deliver({
          ...this.about(room, user),
          cmd: 5,
          code: 0,
          payload: [structuredClone(message)],
          next_cursor_seq: message.seq,
        });
      }
    }
  }

  touch(user: string, room: string): void {
    const inbox = this.inbox.get(user) ?? new Map<string, number>();
    this.inbox.set(user, inbox.set(room, ++this.version));
  }

  about(room: Room, user: string): { conversation_id: string; peer?: string } {
    if (!room.id.startsWith("private_")) return { conversation_id: room.id };
    return { conversation_id: room.id, peer: room.members.find((one) => one !== user) ?? user };
  }

  handle(socket: FakeSocket, request: Request): Frame | undefined {
    const { cmd, msg_id, to } = request;
    const id = to === undefined ? request.conversation_id : privateId(socket.user, to);
    const room = id === undefined ? undefined : this.room(id, to === undefined ? undefined : [socket.user, to]);
    const answer = { cmd, code: 0, ...(room && this.about(room, socket.user)) };
    if (cmd !== 0 && this.happens("overload")) {
      const payload = { message: "overloaded", retry_after_ms: 50 };
      return { ...answer, ...(msg_id !== undefined && { msg_id }), code: 503, payload };
    }
    switch (cmd) {
      case 0: {
        const newest = Math.max(0, ...(this.inbox.get(socket.user)?.values() ?? []));
        return request.cursor_seq === undefined ? answer : { ...answer, next_cursor_seq: newest };
      }
      case 1: {
        const { token, device_id } = request.payload as { token: string; device_id: string };
        socket.user = token;
        return { ...answer, payload: { user_id: token, device_id, server_time: 0, heartbeat_ms: 30_000 } };
      }
      case 2:
        return this.chat(socket, request, room!, answer);
      case 3: {
        const { limit = 50, direction } = (request.payload ?? {}) as { limit?: number; direction?: string };
        const cursor = request.cursor_seq ?? 0;
        const all =
          direction === "backward"
            ? room!.committed.filter((one) => cursor === 0 || one.seq < cursor).reverse()
            : room!.committed.filter((one) => one.seq > cursor);
        const payload = structuredClone(all.slice(0, limit));
        const next_cursor_seq = payload.at(-1)?.seq ?? cursor;
        return { ...answer, payload, next_cursor_seq, has_more: all.length > limit };
      }
      case 4: {
        const key = `${socket.user} ${room!.id}`;
        const seq = Math.max(this.read.get(key) ?? 0, request.cursor_seq ?? 0);
        this.read.set(key, seq);
        this.touch(socket.user, room!.id);
        const payload = { type: "ack", seq, unread: this.unread(room!, socket.user) };
        this.to(socket.user, { ...answer, cmd: 7, payload }, socket);
        return { ...answer, seq };
      }
      case 6: {
        const cursor = request.cursor_seq ?? 0;
        const { limit = 100 } = (request.payload ?? {}) as { limit?: number };
        const changed = [...(this.inbox.get(socket.user) ?? [])]
          .filter(([, version]) => version > cursor)
          .sort((a, b) => a[1] - b[1]);
        const page = changed.slice(0, limit);
        const payload = page.map(([one]) => this.entry(this.room(one), socket.user));
        return { ...answer, payload, next_cursor_seq: page.at(-1)?.[1] ?? cursor, has_more: changed.length > limit };
      }
      default:
        return answer;
    }
  }

  private entry(room: Room, user: string): SyncEntry {
    const last = room.committed.at(-1);
    const shown = room.committed.findLast((one) => isCounted(one.msg_type));
    const read = this.read.get(`${user} ${room.id}`) ?? 0;
    const mentions = room.committed.filter(
      (one) => one.seq > read && one.sender_id !== user && !one.recalled && one.mentions?.includes(user) === true,
    );
    return {
      ...this.about(room, user),
      last_seq: last?.seq ?? 0,
      last_ack_seq: this.read.get(`${user} ${room.id}`) ?? 0,
      unread: this.unread(room, user),
      ...(shown && { last_message: structuredClone(shown) }),
      settings: this.settings.get(`${user} ${room.id}`) ?? {},
      ...(mentions[0] && { mentions: mentions.length, mention_seq: mentions[0].seq }),
    };
  }

  private unread(room: Room, user: string): number {
    const read = this.read.get(`${user} ${room.id}`) ?? 0;
    return room.committed.filter(
      (one) => one.seq > read && one.sender_id !== user && !one.recalled && isCounted(one.msg_type),
    ).length;
  }

  private chat(socket: FakeSocket, request: Request, room: Room, answer: Frame): Frame | undefined {
    const payload = request.payload as Partial<WireMessage> & { ack?: string };
    const msg_id = request.msg_id!;
    const key = `${socket.user} ${msg_id}`;
    const send = (): void => {
      const known = room.ids.get(key);
      if (known) socket.deliver({ ...answer, msg_id, seq: known.seq });
    };
    const known = room.ids.get(key);
    if (known) {
      const waiting = room.queue.find((one) => one.message.msg_id === msg_id);
      if (payload.ack !== "stored" || !waiting) return { ...answer, msg_id, seq: known.seq };
      waiting.stored.push(send);
      return undefined;
    }
    if (this.happens("skip")) room.next++;
    const message: WireMessage = {
      msg_id,
      seq: room.next++,
      sender_id: socket.user,
      msg_type: 1,
      send_time: 0,
      ...payload,
      content: payload.content ?? "",
    };
    delete (message as { ack?: string }).ack;
    if (payload.attachments) message.attachments = payload.attachments.map(({ file_id }) => this.attachment(file_id));
    const stored = payload.ack === "stored" ? [send] : [];
    room.queue.push({ message, origin: socket, stored });
    room.ids.set(key, { seq: message.seq, state: "accepted" });
    return payload.ack === "stored" ? undefined : { ...answer, msg_id, seq: message.seq };
  }
}

type Listener = (event: unknown) => void;

export class FakeSocket implements WebSocketLike {
  readyState = 0;
  user: string;
  private readonly listeners = new Map<string, Listener[]>();

  constructor(
    private readonly server: FakeServer,
    readonly url: string,
  ) {
    this.user = new URL(url).searchParams.get("user_id") ?? "";
    this.later(() => {
      this.readyState = 1;
      server.sockets.add(this);
      this.fire("open", {});
    });
  }

  addEventListener(type: string, listener: Listener): void {
    this.listeners.set(type, [...(this.listeners.get(type) ?? []), listener]);
  }

  send(text: string): void {
    const request = JSON.parse(text) as Request;
    this.later(() => {
      if (this.readyState !== 1) return;
      this.server.requests.push(request);
      if (this.server.happens("cut")) return this.end(1006, "");
      const given = this.server.intercept?.(this, request);
      const frame = given === undefined ? this.server.handle(this, request) : given;
      if (this.server.happens("cut")) return this.end(1006, "");
      if (frame && frame !== "silence") this.deliver(frame);
    });
  }

  deliver(frame: Frame): void {
    const text = JSON.stringify(frame);
    // One socket keeps its order.
    this.later(() => {
      if (this.readyState === 1) this.fire("message", { data: text });
    });
  }

  close(): void {
    this.end(1000, "");
  }

  /** The connection ends. */
  end(code: number, reason: string): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.server.sockets.delete(this);
    this.later(() => this.fire("close", { code, reason }));
  }

  private last = 0;

  private later(run: () => void): void {
    const at = Math.max(this.last, Date.now() + 1 + this.server.random() * 20);
    this.last = at;
    setTimeout(run, at - Date.now());
  }

  private fire(type: string, event: unknown): void {
    for (const listener of this.listeners.get(type) ?? []) listener(event);
  }
}

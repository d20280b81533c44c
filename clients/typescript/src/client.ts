/** The client: wires connection, sync, conversations, store and calls. */

import { Blocks, Groups, Invitations } from "./calls.js";
import { ConversationState, type StoredConversation } from "./conversation.js";
import { Emitter } from "./emitter.js";
import { Http, type Query } from "./http.js";
import { newId } from "./ids.js";
import { Keeper } from "./keeper.js";
import type { OutboxItem } from "./outbox.js";
import { Profiles } from "./profiles.js";
import { Reader } from "./reader.js";
import { Sender } from "./sender.js";
import type { Limits, Session } from "./session.js";
import { MemoryStore } from "./store.js";
import type { Tabs } from "./tabs.js";
import { Tokens } from "./tokens.js";
import { type Link, type LinkEvents, type Login, type Status, Transport, type TransportOptions } from "./transport.js";
import {
  type AnyEvent,
  type Change,
  type ConnectionState,
  type Conversation,
  type ConversationChange,
  type Events,
  type ImClientOptions,
  ImError,
  type Store,
} from "./types.js";
import { httpBase } from "./urls.js";
import { Cmd, type Frame, privateId, type Request } from "./wire.js";

/** Until the login's answer says otherwise. */
const HEARTBEAT_MS = 30_000;
/** A push that was lost just before the login is noticed by a heartbeat soon after it. */
const FIRST_HEARTBEAT_MS = 2_000;
const CHANGE_AFTER_MS = 16;

/** What is kept beside conversations. */
interface Meta {
  userId?: string;
  deviceId: string;
  position?: number | undefined;
}

/** A user's connection, conversations and calls. */
export class ImClient {
  /** Groups and their members. */
  readonly groups: Groups;
  /** Users whom you have blocked. */
  readonly blocks: Blocks;
  /** Invitations into groups. */
  readonly invitations: Invitations;
  /** Profiles, with a cache. */
  readonly profiles: Profiles;

  private readonly http: Http;
  private readonly tokens: Tokens | undefined;
  private readonly keeper: Keeper;
  private readonly emitter = new Emitter();
  private readonly session: Session;
  private readonly reader: Reader;
  private readonly sender: Sender;
  private readonly store: Store;
  private readonly owner = newId().slice(0, 8);
  private readonly known = new Map<string, ConversationState>();
  private me: string | undefined;
  private meta: Meta = { deviceId: "" };
  private tabs: Tabs | undefined;
  /** This tab writes what is shared with others. */
  private writes = true;
  private stored = new Map<string, unknown>();
  private link: Link | undefined;
  private status: Status = { status: "idle" };
  private synced = false;
  private listed: readonly Conversation[] | undefined;
  private touches = 0;
  private pendingChange: { conversations: Map<string, ConversationChange>; list: boolean } | undefined;
  private waiters: { resolve(): void; reject(error: Error): void }[] = [];
  private heartbeat: ReturnType<typeof setInterval> | undefined;
  private soon: ReturnType<typeof setTimeout> | undefined;
  private offered: ReadonlySet<string> = new Set();
  private offset = 0;
  private watched: readonly string[] = [];

  constructor(readonly options: ImClientOptions) {
    if ((options.token === undefined) === (options.userId === undefined)) {
      throw new ImError(400, "give either `token` or `userId`");
    }
    const fetcher = options.fetch ?? ((input, init) => fetch(input, init));
    this.tokens = options.token && new Tokens(options.token);
    this.http = new Http(
      () => httpBase(this.link?.url ?? this.urls[0] ?? ""),
      { userId: options.userId, token: (fresh) => this.token(fresh) },
      fetcher,
    );
    this.groups = new Groups(this.http);
    this.blocks = new Blocks(this.http);
    this.invitations = new Invitations(this.http);
    this.profiles = new Profiles(this.http);
    this.store = options.store ?? new MemoryStore();
    this.keeper = new Keeper(this.store, (error) => this.emitter.emit("error", error));
    this.session = this.makeSession();
    this.reader = new Reader(this.session, this.http, () => this.keepMeta());
    this.sender = new Sender(this.session);
  }

  /** State of the connection. */
  get connection(): ConnectionState {
    return { ...this.status, synced: this.synced };
  }

  /** Your user id. Known once `start` has resolved. */
  get userId(): string {
    if (this.me === undefined) throw new ImError(401, "the user is not known yet: wait for `start`");
    return this.me;
  }

  /** Your device id. Known once `start` has resolved. */
  get deviceId(): string {
    return this.meta.deviceId;
  }

  /** What the server can do beyond the basics, such as `edit`, `reactions`, `profiles`. Empty until a `connection` event. */
  get features(): ReadonlySet<string> {
    return this.offered;
  }

  /** Milliseconds by which the server's clock is ahead of this one, as far as it is known. */
  get clockOffset(): number {
    return this.offset;
  }

  /**
   * Loads the store and connects. Resolves when the user is known: from the store, from `userId`, or by the first login.
   * Rejects if the server refuses this client for good before. Everything else comes as it is there.
   */
  async start(): Promise<void> {
    if (this.link) return;
    this.socketOf();
    this.link = { url: this.urls[0] ?? "", start() {}, stop() {}, retryNow() {}, request: offline };
    const { store } = this;
    this.tabs = store.tabs?.(this.owner);
    await this.tabs?.join();
    this.stored = await store.load();
    this.meta = { deviceId: "", ...(this.stored.get("meta") as Partial<Meta> | undefined) };
    this.meta.deviceId = this.options.deviceId ?? (this.meta.deviceId || newId());
    const user = this.options.userId ?? this.meta.userId;
    if (user !== undefined) this.identify(user);
    if (this.connection.status === "stopped") {
      this.link = undefined;
      this.tabs?.leave();
      throw new ImError(403, this.status.reason?.message ?? "");
    }
    globalThis.addEventListener?.("pagehide", this.flush);
    this.writes = !this.tabs;
    this.link = this.connect();
    this.link.start();
    this.tabs?.hello();
    this.tabs
      ?.lead()
      .then(() => this.lead())
      .catch((error) => this.emitter.emit("error", error));
    if (this.me === undefined) await this.until();
  }

  /** Closes the connection and writes what is to be kept. `start` begins again. */
  async stop(): Promise<void> {
    globalThis.removeEventListener?.("pagehide", this.flush);
    this.link?.stop();
    this.link = undefined;
    await this.keeper.flush();
    this.tabs?.leave();
  }

  /** Connects at once if the client waits for its next attempt. */
  retryNow(): void {
    this.link?.retryNow();
  }

  /** Calls `listener` for each event of this name, until the returned function is called. */
  on<K extends keyof Events>(type: K, listener: (event: Events[K]) => void): () => void {
    return this.emitter.on(type, listener);
  }

  /**
   * Events as an async iterator: of these names, or all. A reader that is 10,000 events behind gets an error, since it
   * would miss some.
   */
  events<K extends keyof Events>(...types: K[]): AsyncIterableIterator<Extract<AnyEvent, { type: K }>> {
    return this.emitter.iterate(types) as AsyncIterableIterator<Extract<AnyEvent, { type: K }>>;
  }

  /** All conversations, the one with the newest message first. Another array after each change of the list. */
  get conversations(): readonly Conversation[] {
    if (!this.listed) {
      const shown = [...this.known.values()].filter(({ info }) => info.listed && info.member && !info.cleared);
      this.listed = shown.sort((a, b) => b.info.touched - a.info.touched);
    }
    return this.listed;
  }

  /** A conversation by its id, whether it is in the list or not. For private chats see `direct`. */
  conversation(id: string): Conversation {
    void this.userId;
    return this.session.get(id);
  }

  /** The private chat with this user. */
  direct(userId: string): Conversation {
    return this.session.get(privateId(this.userId, userId), userId);
  }

  /** Which of up to 100 users are connected. Users that you may not ask about are left out. */
  async presence(userIds: readonly string[]): Promise<Map<string, boolean>> {
    type Answer = { users: { user_id: string; online: boolean }[] };
    const answer = await this.http.call<Answer>("POST", "/api/presence", { user_ids: userIds });
    return new Map(answer.users.map((user) => [user.user_id, user.online]));
  }

  /**
   * Replaces the list of users whose coming and going is told as `presence`, at most 200, and tells their present state.
   * Goes on after a reconnect. Of tabs that share a device, the last call counts. On servers with the feature
   * `presence_events`.
   */
  watchPresence(userIds: readonly string[]): void {
    this.watched = [...userIds];
    if (this.session.online) void this.watch();
  }

  /** Ends all tokens of the user and closes all its connections, this one included. */
  async logout(): Promise<void> {
    await this.http.call("POST", "/api/logout");
    await this.stop();
  }

  /** Any other call; `path` begins with `/api`. */
  call<T>(method: string, path: string, body?: unknown, query?: Query): Promise<T> {
    return this.http.call(method, path, body, query);
  }

  private get urls(): readonly string[] {
    return typeof this.options.url === "string" ? [this.options.url] : this.options.url;
  }

  private makeSession(): Session {
    const { options } = this;
    const client = this;
    const limits: Limits = {
      pageSize: Math.max(1, Math.min(options.pageSize ?? 50, 500)),
      windowMax: options.windowMax ?? 10_000,
      storedMax: options.storedMax ?? 100,
      follow: options.follow === true,
    };
    return {
      limits,
      get me() {
        return client.userId;
      },
      owner: this.owner,
      emitter: this.emitter,
      get online() {
        return client.status.status === "online";
      },
      conversations: this.known,
      get: (id, peer) => this.get(id, peer),
      request: (request, conversation) => this.request(request, conversation?.id),
      untilOnline: () => this.until(),
      nextTouch: () => ++this.touches,
      changed: (conversation, messages, info) => this.changed(conversation, messages, info),
      keepItem: (item, keep) =>
        this.keeper.put(`o ${item.conversationId} ${item.msgId}`, () => (keep ? { ...item } : undefined), keep),
    };
  }

  private get(id: string, peer?: string): ConversationState {
    let conversation = this.known.get(id);
    if (!conversation) {
      conversation = new ConversationState(id, this.session, this.reader, this.sender);
      this.known.set(id, conversation);
    }
    if (peer !== undefined) conversation.info.peer = peer;
    return conversation;
  }

  private request(request: Request, conversationId?: string): Promise<Frame> {
    return this.link?.request(request, conversationId) ?? offline();
  }

  private async token(fresh: boolean): Promise<string | null> {
    if (fresh) this.tokens?.refused();
    return (await this.tokens?.get()) ?? null;
  }

  private connect(): Link {
    const own = this.tabs && this.options.tabs === "own";
    const make = (events: LinkEvents): Link => {
      const options: TransportOptions = {
        urls: this.urls,
        userId: this.options.userId,
        tokens: this.tokens,
        deviceId: own ? `${this.meta.deviceId.slice(0, 55)}-${this.owner}` : this.meta.deviceId,
        webSocket: this.socketOf(),
      };
      return new Transport(options, events);
    };
    const events: LinkEvents = {
      online: (login) => this.online(login),
      status: (status) => this.setStatus(status),
      frame: (frame) => this.frame(frame),
      error: (error) => this.emitter.emit("error", error),
    };
    return this.tabs && !own ? this.tabs.share(make, events, this.urls[0] ?? "") : make(events);
  }

  /** This tab leads: it writes the store, takes over what closed tabs left, and connects if the tabs share a device. */
  private async lead(): Promise<void> {
    const { link, tabs } = this;
    if (!link || !tabs) return;
    const kept = (await this.store.load()).get("meta") as Meta | undefined;
    if (kept && this.options.deviceId === undefined) this.meta.deviceId = kept.deviceId;
    this.writes = true;
    if (this.me !== undefined) this.keepMeta();
    for (const one of this.known.values()) this.keep(one);
    if (link === this.link) link.lead?.();
    if (this.me === undefined) await this.until();
    await tabs.watch(async (items) => {
      for (const item of items) this.adopt(item);
      await this.keeper.flush();
      if (this.session.online) for (const one of this.known.values()) this.sender.resume(one);
    });
  }

  private socketOf(): NonNullable<ImClientOptions["webSocket"]> {
    const given = this.options.webSocket ?? (globalThis as { WebSocket?: ImClientOptions["webSocket"] }).WebSocket;
    if (!given) throw new ImError(400, "there is no global WebSocket: give one as `webSocket`");
    return given;
  }

  /** Loads the stored state of this user, once the user is known; that of another user stays stored. */
  private identify(user: string): void {
    if (this.me === user) return;
    const kept = this.meta.userId;
    if (this.me !== undefined || (kept !== undefined && kept !== user)) {
      const message = `the store belongs to ${this.me ?? kept}, not to ${user}: give each user a store of its own`;
      this.link?.stop();
      this.setStatus({ status: "stopped", reason: { code: 403, message } });
      return;
    }
    this.me = user;
    this.meta.userId = user;
    this.reader.position = this.meta.position;
    for (const [key, value] of this.stored)
      if (key.startsWith("c ")) this.restore(key.slice(2), value as StoredConversation);
    const items = [...this.stored].filter(([key]) => key.startsWith("o ")).map(([, value]) => value as OutboxItem);
    if (!this.tabs) for (const item of items.sort((a, b) => a.order - b.order)) this.adopt(item);
    this.stored.clear();
    this.keepMeta();
  }

  private restore(id: string, stored: StoredConversation): void {
    const conversation = new ConversationState(id, this.session, this.reader, this.sender, stored);
    this.known.set(id, conversation);
    this.touches = Math.max(this.touches, conversation.info.touched);
    this.changed(conversation, true, true);
  }

  private adopt(item: OutboxItem): void {
    const conversation = this.get(item.conversationId, item.peer);
    if (conversation.outbox.get(item.msgId)) return;
    item.owner = this.owner;
    this.sender.restore(conversation, item);
    const seen = conversation.timeline.shown.some((one) => one.mine && one.msgId === item.msgId);
    if (seen) conversation.itemRemoved(item);
    else conversation.itemChanged(item);
  }

  private setStatus(status: Status): void {
    this.status = status;
    if (status.status !== "online") {
      this.synced = false;
      clearInterval(this.heartbeat);
      clearTimeout(this.soon);
    }
    if (status.status === "stopped" || status.status === "idle") {
      const { code, message } = status.reason ?? { code: 0, message: "the client was stopped" };
      this.wake((waiter) => waiter.reject(new ImError(code, message)));
    }
    this.emitter.emit("connection", this.connection);
  }

  private until(): Promise<void> {
    const { status, reason } = this.status;
    if (status === "online" && this.me !== undefined) return Promise.resolve();
    if (status === "stopped") return Promise.reject(new ImError(reason?.code ?? 0, reason?.message ?? "stopped"));
    return new Promise((resolve, reject) => this.waiters.push({ resolve, reject }));
  }

  private wake(call: (waiter: (typeof this.waiters)[number]) => void): void {
    const { waiters } = this;
    this.waiters = [];
    for (const waiter of waiters) call(waiter);
  }

  private online(login: Login): void {
    if (login.user_id !== undefined) this.identify(login.user_id);
    if (!this.session.online) return;
    if (login.features) this.offered = new Set(login.features);
    else if (this.offered.size === 0) void this.askFeatures();
    if (login.server_time !== undefined) this.offset = login.server_time - Date.now();
    this.heartbeat = setInterval(() => this.beat(), login.heartbeat_ms ?? HEARTBEAT_MS);
    this.soon = setTimeout(() => this.beat(), FIRST_HEARTBEAT_MS);
    this.wake((waiter) => waiter.resolve());
    void this.catchUp();
    if (this.watched.length > 0) void this.watch();
  }

  private beat(): void {
    const { position } = this.reader;
    this.request(position === undefined ? { cmd: Cmd.Heartbeat } : { cmd: Cmd.Heartbeat, cursor_seq: position }).then(
      (frame) => this.reader.heard(frame.next_cursor_seq),
      () => undefined,
    );
  }

  /** After a login: what was missed comes first, then what waits is sent. */
  private async catchUp(): Promise<void> {
    const { link } = this;
    for (const one of this.known.values()) this.sender.resume(one);
    try {
      await this.reader.sync();
    } catch (error) {
      // Without a connection the next login begins again. A refused sync is told, and tried again later.
      if (error instanceof ImError && error.code !== 0) {
        this.emitter.emit("error", error);
        this.reader.syncSoon();
      }
      return;
    }
    const conversations = [...this.known.values()];
    for (const one of conversations) {
      this.sender.check(one);
      void this.reader.ack(one);
    }
    await Promise.all(conversations.filter((one) => one.stale).map((one) => this.reader.pull(one)));
    if (link !== this.link || !this.session.online || conversations.some((one) => one.stale)) return;
    this.synced = true;
    this.emitter.emit("connection", this.connection);
  }

  /** Without a login's answer, as with `userId`. Servers before protocol 1 do not know this call. */
  private async askFeatures(): Promise<void> {
    try {
      const { features = [] } = await this.http.call<{ features?: string[] }>("GET", "/api");
      this.offered = new Set(features);
      this.emitter.emit("connection", this.connection);
    } catch {
      // They stay unknown.
    }
  }

  private async watch(): Promise<void> {
    try {
      const frame = await this.request({ cmd: Cmd.Presence, payload: { user_ids: this.watched } });
      for (const { user_id: userId, online } of frame.code === 0 ? frame.payload.users : []) {
        this.emitter.emit("presence", { userId, online });
      }
    } catch {
      // The next login begins again.
    }
  }

  private frame(frame: Frame): void {
    if (this.me === undefined) return;
    if (frame.cmd === Cmd.Chat) this.sender.reply(frame);
    else if (frame.cmd === Cmd.Ack && frame.code === 0 && frame.conversation_id !== undefined) {
      this.get(frame.conversation_id, frame.peer).read(frame.seq ?? 0, undefined);
    } else if (frame.cmd === Cmd.Push && frame.conversation_id !== undefined) {
      this.get(frame.conversation_id, frame.peer).push(frame.payload);
    } else if (frame.cmd === Cmd.Event) this.event(frame, frame.payload?.type);
  }

  private event(frame: Frame, type: string): void {
    const { payload, conversation_id: id } = frame;
    const conversation = id === undefined ? undefined : this.get(id, frame.peer);
    const conversationId = id ?? "";
    switch (type) {
      case "token_expiring":
        return;
      case "resync":
        if (conversation?.timeline.loaded) void this.reader.pull(conversation);
        else this.reader.sync().catch(() => undefined);
        if (!conversation) for (const one of this.known.values()) if (one.timeline.loaded) void this.reader.pull(one);
        return;
      case "ack":
        conversation?.read(payload.seq, payload.unread);
        return;
      case "read":
        if (!conversation) return;
        conversation.info.peerReadSeq = Math.max(conversation.info.peerReadSeq, payload.seq);
        this.changed(conversation, false, true);
        this.emitter.emit("read", { conversationId, userId: payload.user_id, seq: payload.seq });
        return;
      case "typing":
        this.emitter.emit("typing", { conversationId, userId: payload.user_id });
        return;
      case "presence": {
        const { user_id: userId, online, last_seen: lastSeen } = payload;
        this.emitter.emit("presence", { userId, online, ...(lastSeen !== undefined && { lastSeen }) });
        return;
      }
      case "joined":
      case "left":
      case "dismissed":
        if (!conversation) return;
        conversation.info.member = type === "joined";
        conversation.info.listed = true;
        if (type === "joined") this.reader.syncSoon();
        this.changed(conversation, false, true);
        this.emitter.emit("membership", { conversationId, type });
        return;
      case "group_updated":
        this.emitter.emit("group", { conversationId });
        return;
      case "invited":
        this.emitter.emit("invited", { conversationId, by: payload.by });
        return;
      case "settings":
        if (!conversation) return;
        conversation.info.settings = payload.settings ?? {};
        this.changed(conversation, false, true);
        return;
      case "cleared":
        conversation?.entry({ conversation_id: conversationId, cleared: true });
        return;
      default:
        this.emitter.emit("other", { ...(id !== undefined && { conversationId: id }), payload });
        return;
    }
  }

  private changed(conversation: ConversationState, messages: boolean, info: boolean): void {
    this.keep(conversation);
    if (info) this.listed = undefined;
    if (!this.pendingChange) {
      this.pendingChange = { conversations: new Map(), list: false };
      const schedule = this.options.schedule ?? ((run: () => void) => void setTimeout(run, CHANGE_AFTER_MS));
      schedule(() => this.tellChange());
    }
    const before = this.pendingChange.conversations.get(conversation.id);
    this.pendingChange.list ||= info;
    this.pendingChange.conversations.set(conversation.id, {
      messages: messages || before?.messages === true,
      info: info || before?.info === true,
    });
  }

  private keep(conversation: ConversationState): void {
    if (this.writes) this.keeper.put(`c ${conversation.id}`, () => this.toKeep(conversation));
  }

  private tellChange(): void {
    const change: Change | undefined = this.pendingChange;
    this.pendingChange = undefined;
    if (change) this.emitter.emit("change", change);
  }

  /** Nothing is kept of conversations that the user is not in. */
  private toKeep({ info, timeline }: ConversationState): StoredConversation | undefined {
    if (!info.listed || !info.member) return undefined;
    return { info: { ...info, counted: [...info.counted] }, timeline: timeline.stored(this.session.limits.storedMax) };
  }

  private keepMeta(): void {
    this.meta.position = this.reader.position;
    if (this.writes) this.keeper.put("meta", () => ({ ...this.meta }));
  }

  private readonly flush = (): void => void this.keeper.flush();
}

const offline = (): Promise<Frame> => Promise.reject(new ImError(0, "there is no connection"));

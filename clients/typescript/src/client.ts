/** The client: wires connection, sync, conversations, store and calls. */

import { ignore } from "./backoff.js";
import { Blocks, Groups, Invitations } from "./calls.js";
import { ConversationState, type StoredConversation } from "./conversation.js";
import { Emitter } from "./emitter.js";
import { globalFetch, Http, type Query } from "./http.js";
import { newId } from "./ids.js";
import { Keeper } from "./keeper.js";
import type { OutboxItem } from "./outbox.js";
import { Profiles } from "./profiles.js";
import { PAGE_MAX, Reader } from "./reader.js";
import { Sender } from "./sender.js";
import type { Limits } from "./session.js";
import { MemoryStore } from "./store.js";
import type { Tabs } from "./tabs.js";
import { Tokens } from "./tokens.js";
import {
  type Link,
  type LinkEvents,
  type Login,
  lost,
  type Status,
  Transport,
  type TransportOptions,
} from "./transport.js";
import {
  type AnyEvent,
  type ConnectionState,
  type Conversation,
  type ConversationChange,
  type Events,
  type ImClientOptions,
  ImError,
  type Store,
} from "./types.js";
import { httpBase } from "./urls.js";
import {
  CMD_ACK,
  CMD_CHAT,
  CMD_EVENT,
  CMD_HEARTBEAT,
  CMD_PRESENCE,
  CMD_PUSH,
  camel,
  errorOf,
  type Frame,
  privateId,
  type Request,
} from "./wire.js";

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

  /** @internal */
  readonly _limits: Limits;
  /** @internal */
  readonly _emitter = new Emitter();
  /** @internal */
  readonly _owner = newId().slice(0, 8);
  /** @internal */
  readonly _known = new Map<string, ConversationState>();

  private readonly _http: Http;
  private readonly _tokens: Tokens | undefined;
  private readonly _keeper: Keeper;
  private readonly _reader: Reader;
  private readonly _sender: Sender;
  private readonly _store: Store;
  private readonly _urls: readonly string[];
  private _me: string | undefined;
  private _meta: Meta = { deviceId: "" };
  private _tabs: Tabs | undefined;
  /** This tab writes what is shared with others. */
  private _writes = true;
  private _stored = new Map<string, unknown>();
  private _link: Link | undefined;
  private _status: Status = { status: "idle" };
  private _synced = false;
  private _listed: readonly Conversation[] | undefined;
  private _touches = 0;
  private _pendingChange: Map<string, ConversationChange> | undefined;
  private _started = false;
  /** Called when online, or with an error when the client stops. */
  private _waiters: ((error?: ImError) => void)[] = [];
  private _heartbeat: ReturnType<typeof setInterval> | undefined;
  private _soon: ReturnType<typeof setTimeout> | undefined;
  private _offered: ReadonlySet<string> = new Set();
  private _offset = 0;
  private _watched: readonly string[] | undefined;

  constructor(readonly options: ImClientOptions) {
    if ((options.token === undefined) === (options.userId === undefined)) {
      throw new ImError(400, "give either `token` or `userId`");
    }
    const { url, pageSize = 50, windowMax = 10_000, storedMax = 100, follow = false } = options;
    this._urls = typeof url === "string" ? [url] : url;
    this._limits = {
      _pageSize: Math.max(1, Math.min(pageSize, PAGE_MAX)),
      _windowMax: windowMax,
      _storedMax: storedMax,
      _follow: follow,
    };
    this._tokens = options.token && new Tokens(options.token);
    this._http = new Http(() => this._base, options.fetch ?? globalFetch, this._tokens, options.userId);
    this.groups = new Groups(this._http);
    this.blocks = new Blocks(this._http);
    this.invitations = new Invitations(this._http);
    this.profiles = new Profiles(this._http);
    this._store = options.store ?? new MemoryStore();
    this._keeper = new Keeper(this._store, (error) => this._error(error));
    this._reader = new Reader(this, () => this._keepMeta());
    this._sender = new Sender(this);
  }

  /** State of the connection. */
  get connection(): ConnectionState {
    return { ...this._status, synced: this._synced };
  }

  /** Your user id. Known once `start` has resolved. */
  get userId(): string {
    if (this._me === undefined) throw new ImError(401, "the user is not known before `start` resolves");
    return this._me;
  }

  /** Your device id. Known once `start` has resolved. */
  get deviceId(): string {
    return this._meta.deviceId;
  }

  /** What the server can do beyond the basics, such as `edit`, `reactions`, `profiles`. Empty until a `connection` event. */
  get features(): ReadonlySet<string> {
    return this._offered;
  }

  /** Milliseconds by which the server's clock is ahead of this one, as far as it is known. */
  get clockOffset(): number {
    return this._offset;
  }

  /**
   * Loads the store and connects. Resolves when the user is known: from the store, from `userId`, or by the first login.
   * Rejects if the server refuses this client for good before. Everything else comes as it is there.
   */
  async start(): Promise<void> {
    if (this._started) return;
    const { WebSocket: found } = globalThis as { WebSocket?: ImClientOptions["webSocket"] };
    const { webSocket = found } = this.options;
    if (!webSocket) throw new ImError(400, "give a WebSocket as `webSocket`");
    this._started = true;
    this._tabs = this._store.tabs?.(this._owner);
    await this._tabs?._join();
    this._stored = await this._store.load();
    const kept = this._stored.get("meta") as Partial<Meta> | undefined;
    this._meta = { ...kept, deviceId: this.options.deviceId ?? kept?.deviceId ?? newId() };
    const user = this.options.userId ?? this._meta.userId;
    if (user !== undefined) this._identify(user);
    if (this.connection.status === "stopped") {
      this._started = false;
      this._tabs?._leave();
      throw this._ended();
    }
    this._listen("addEventListener");
    this._writes = !this._tabs;
    this._link = this._connect(webSocket);
    this._link._start();
    this._tabs?._hello();
    this._tabs
      ?._lead()
      .then(() => this._lead())
      .catch((error) => this._error(error));
    if (this._me === undefined) await this._untilOnline();
  }

  /** Closes the connection and writes what is to be kept. `start` begins again. */
  async stop(): Promise<void> {
    this._listen("removeEventListener");
    this._hide();
    this._link?._stop();
    this._link = undefined;
    this._started = false;
    await this._keeper._flush();
    this._tabs?._leave();
  }

  /** Connects at once if the client waits for its next attempt. */
  retryNow(): void {
    this._link?._retryNow();
  }

  /** Calls `listener` for each event of this name, until the returned function is called. */
  on<K extends keyof Events>(type: K, listener: (event: Events[K]) => void): () => void {
    return this._emitter._on(type, listener);
  }

  /**
   * Events as an async iterator: of these names, or all. A reader that is 10,000 events behind gets an error, since it
   * would miss some.
   */
  events<K extends keyof Events>(...types: K[]): AsyncIterableIterator<Extract<AnyEvent, { type: K }>> {
    return this._emitter._iterate(types) as AsyncIterableIterator<Extract<AnyEvent, { type: K }>>;
  }

  /** All conversations, the one with the newest message first. Another array after each change of the list. */
  get conversations(): readonly Conversation[] {
    if (!this._listed) {
      const shown = [...this._known.values()].filter(({ _info: info }) => info.listed && info.member && !info.cleared);
      this._listed = shown.sort((a, b) => b._info.touched - a._info.touched);
    }
    return this._listed;
  }

  /** A conversation by its id, whether it is in the list or not. For private chats see `direct`. */
  conversation(id: string): Conversation {
    void this.userId;
    return this._get(id);
  }

  /** The private chat with this user. */
  direct(userId: string): Conversation {
    return this._get(privateId(this.userId, userId), userId);
  }

  /** Which of up to 100 users are connected. Users that you may not ask about are left out. */
  async presence(userIds: readonly string[]): Promise<Map<string, boolean>> {
    type Answer = { users: { user_id: string; online: boolean }[] };
    const answer = await this._http._call<Answer>("POST", "/api/presence", { user_ids: userIds });
    return new Map(answer.users.map((user) => [user.user_id, user.online]));
  }

  /**
   * Replaces the list of users whose coming and going is told as `presence`, at most 200, and tells their present state.
   * Goes on after a reconnect. Of tabs that share a device, the last call counts. On servers with the feature
   * `presence_events`.
   */
  watchPresence(userIds: readonly string[]): void {
    this._watched = [...userIds];
    if (this._online) void this._watch();
  }

  /** Ends all tokens of the user and closes all its connections, this one included. */
  async logout(): Promise<void> {
    await this._http._call("POST", "/api/logout");
    await this.stop();
  }

  /** Any other call; `path` begins with `/api`. */
  call<T>(method: string, path: string, body?: unknown, query?: Query): Promise<T> {
    return this._http._call(method, path, body, query);
  }

  /** @internal */
  get _base(): string {
    return httpBase(this._link?._url ?? this._urls[0] ?? "");
  }

  /** @internal */
  get _online(): boolean {
    return this._status.status === "online";
  }

  /** @internal */
  _get(id: string, peer?: string): ConversationState {
    const conversation = this._known.get(id) ?? this._restore(id);
    if (peer !== undefined) conversation._info.peer = peer;
    return conversation;
  }

  /** @internal */
  _request(request: Request, conversationId?: string): Promise<Frame> {
    return this._link?._request(request, conversationId) ?? Promise.reject(lost());
  }

  /** @internal */
  _nextTouch(): number {
    return ++this._touches;
  }

  /** @internal */
  _keepItem(item: OutboxItem, keep: boolean): void {
    this._keeper._put(`o ${item.conversationId} ${item.msgId}`, () => (keep ? { ...item } : undefined), keep);
  }

  private _connect(webSocket: TransportOptions["_webSocket"]): Link {
    const own = this._tabs && this.options.tabs === "own";
    const make = (events: LinkEvents): Link => {
      const options: TransportOptions = {
        _urls: this._urls,
        _userId: this.options.userId,
        _tokens: this._tokens,
        _deviceId: own ? `${this._meta.deviceId.slice(0, 55)}-${this._owner}` : this._meta.deviceId,
        _webSocket: webSocket,
      };
      return new Transport(options, events);
    };
    return this._tabs && !own ? this._tabs._share(make, this, this._urls[0] ?? "") : make(this);
  }

  /** This tab leads: it writes the store, takes over what closed tabs left, and connects if the tabs share a device. */
  private async _lead(): Promise<void> {
    const { _link: link, _tabs: tabs } = this;
    if (!link || !tabs) return;
    const kept = (await this._store.load()).get("meta") as Meta | undefined;
    if (kept && this.options.deviceId === undefined) this._meta.deviceId = kept.deviceId;
    this._writes = true;
    if (this._me !== undefined) this._keepMeta();
    for (const one of this._known.values()) this._keep(one);
    if (link === this._link) link._lead?.();
    if (this._me === undefined) await this._untilOnline();
    await tabs._watch(async (items) => {
      for (const item of items) this._adopt(item);
      await this._keeper._flush();
      if (this._online) for (const one of this._known.values()) this._sender._pump(one);
    });
  }

  /** Loads the stored state of this user, once the user is known; that of another user stays stored. */
  private _identify(user: string): void {
    if (this._me === user) return;
    const kept = this._meta.userId;
    if (this._me !== undefined || (kept !== undefined && kept !== user)) {
      const message = `the store belongs to ${this._me ?? kept}, not to ${user}`;
      this._link?._stop();
      this._statusChanged({ status: "stopped", reason: { code: 403, message } });
      return;
    }
    this._me = user;
    this._meta.userId = user;
    this._reader._position = this._meta.position;
    const items: OutboxItem[] = [];
    for (const [key, value] of this._stored) {
      if (key.startsWith("o ")) items.push(value as OutboxItem);
      if (!key.startsWith("c ")) continue;
      const conversation = this._restore(key.slice(2), value as StoredConversation);
      this._touches = Math.max(this._touches, conversation._info.touched);
      this._changed(conversation, true, true);
    }
    if (!this._tabs) for (const item of items.sort((a, b) => a.order - b.order)) this._adopt(item);
    this._stored.clear();
    this._keepMeta();
  }

  private _restore(id: string, stored?: StoredConversation): ConversationState {
    const conversation = new ConversationState(id, this, this._reader, this._sender, stored);
    this._known.set(id, conversation);
    return conversation;
  }

  private _adopt(item: OutboxItem): void {
    const conversation = this._get(item.conversationId, item.peer);
    if (conversation._outbox._get(item.msgId)) return;
    item.owner = this._owner;
    this._sender._restore(conversation, item);
    const seen = conversation._timeline.shown.some((one) => one.mine && one.msgId === item.msgId);
    if (seen) conversation._itemRemoved(item);
    else conversation._itemChanged(item);
  }

  /** @internal */
  _error(error: Error): void {
    this._emitter._emit("error", error);
  }

  /** @internal */
  _statusChanged(status: Status): void {
    this._status = status;
    if (status.status !== "online") {
      this._synced = false;
      clearInterval(this._heartbeat);
      clearTimeout(this._soon);
    }
    if (status.status === "stopped" || status.status === "idle") this._wake(this._ended());
    this._emitter._emit("connection", this.connection);
  }

  /** @internal */
  _untilOnline(): Promise<void> {
    return new Promise((resolve, reject) => {
      this._waiters.push((error) => (error ? reject(error) : resolve()));
      if (this._online && this._me !== undefined) this._wake();
      else if (this._status.status === "stopped") this._wake(this._ended());
    });
  }

  private _ended(): ImError {
    return errorOf(this._status.reason ?? { code: 0, message: "the client was stopped" });
  }

  private _wake(error?: ImError): void {
    for (const waiter of this._waiters.splice(0)) waiter(error);
  }

  /** @internal */
  _loggedIn(login: Login): void {
    if (login.user_id !== undefined) this._identify(login.user_id);
    if (!this._online) return;
    if (login.features) this._offered = new Set(login.features);
    else if (this._offered.size === 0) void this._askFeatures();
    if (login.server_time !== undefined) this._offset = login.server_time - Date.now();
    this._heartbeat = setInterval(() => this._beat(), login.heartbeat_ms ?? HEARTBEAT_MS);
    this._soon = setTimeout(() => this._beat(), FIRST_HEARTBEAT_MS);
    this._wake();
    void this._catchUp();
    this._watch();
  }

  private _beat(): void {
    this._request({ cmd: CMD_HEARTBEAT, cursor_seq: this._reader._position }).then(
      (frame) => this._reader._heard(frame.next_cursor_seq),
      ignore,
    );
  }

  /** After a login: what was missed comes first, then what waits is sent. */
  private async _catchUp(): Promise<void> {
    const { _link: link } = this;
    for (const one of this._known.values()) this._sender._pump(one);
    try {
      await this._reader._sync();
    } catch (error) {
      // Without a connection the next login begins again. A refused sync is told, and tried again later.
      if (error instanceof ImError && error.code !== 0) {
        this._emitter._emit("error", error);
        this._reader._syncSoon();
      }
      return;
    }
    const conversations = [...this._known.values()];
    for (const one of conversations) {
      this._sender._check(one);
      void this._reader._ack(one);
    }
    await Promise.all(conversations.filter((one) => one._stale).map((one) => this._reader._pull(one)));
    if (link !== this._link || !this._online || conversations.some((one) => one._stale)) return;
    this._synced = true;
    this._emitter._emit("connection", this.connection);
  }

  /** Without a login's answer, as with `userId`. Servers before protocol 1 do not know this call. */
  private async _askFeatures(): Promise<void> {
    try {
      const { features = [] } = await this._http._call<{ features?: string[] }>("GET", "/api");
      this._offered = new Set(features);
      this._emitter._emit("connection", this.connection);
    } catch {
      // They stay unknown.
    }
  }

  private async _watch(): Promise<void> {
    if (!this._watched) return;
    try {
      const frame = await this._request({ cmd: CMD_PRESENCE, payload: { user_ids: this._watched } });
      for (const { user_id: userId, online } of frame.code === 0 ? frame.payload.users : []) {
        this._emitter._emit("presence", { userId, online });
      }
    } catch {
      // The next login begins again.
    }
  }

  /** @internal */
  _frame(frame: Frame): void {
    if (this._me === undefined) return;
    if (frame.cmd === CMD_CHAT) this._sender._reply(frame);
    else if (frame.cmd === CMD_ACK && frame.code === 0 && frame.conversation_id !== undefined) {
      this._get(frame.conversation_id, frame.peer)._read(frame.seq ?? 0, undefined);
    } else if (frame.cmd === CMD_PUSH && frame.conversation_id !== undefined) {
      this._get(frame.conversation_id, frame.peer)._push(frame.payload);
    } else if (frame.cmd === CMD_EVENT) this._event(frame);
  }

  private _event({ payload, conversation_id: id, peer }: Frame): void {
    const conversation = id === undefined ? undefined : this._get(id, peer);
    // Fields that this version does not know are there as well.
    const { type, ...fields } = camel(payload) as { type?: string };
    const event = { ...(id !== undefined && { conversationId: id }), ...fields };
    const emit = (name: keyof Events, told: object = event) => this._emitter._emit(name, told as never);
    switch (type) {
      case "token_expiring":
        return;
      case "resync":
        if (conversation?._timeline._loaded) void this._reader._pull(conversation);
        else this._reader._sync().catch(ignore);
        if (!conversation) {
          for (const one of this._known.values()) if (one._timeline._loaded) void this._reader._pull(one);
          this._watch();
        }
        return;
      case "ack":
        conversation?._read(payload.seq, payload.unread);
        return;
      case "read":
        conversation?._readByPeer(payload.seq);
        emit(type);
        return;
      case "typing":
      case "presence":
      case "invited":
        emit(type);
        return;
      case "joined":
      case "left":
      case "dismissed":
        conversation?._membership(type === "joined");
        emit("membership", { ...event, type });
        return;
      case "group_updated":
        emit("group");
        return;
      case "settings":
        conversation?._setSettings(payload.settings ?? {});
        return;
      case "cleared":
        conversation?._cleared(payload.seq);
        return;
      default:
        emit("other", { ...event, payload });
    }
  }

  /** @internal */
  _changed(conversation: ConversationState, messages: boolean, info: boolean): void {
    this._keep(conversation);
    if (info) this._listed = undefined;
    if (!this._pendingChange) {
      this._pendingChange = new Map();
      const schedule = this.options.schedule ?? ((run: () => void) => void setTimeout(run, CHANGE_AFTER_MS));
      schedule(() => this._tellChange());
    }
    const before = this._pendingChange.get(conversation.id);
    this._pendingChange.set(conversation.id, {
      messages: messages || !!before?.messages,
      info: info || !!before?.info,
    });
  }

  private _keep(conversation: ConversationState): void {
    if (this._writes) this._keeper._put(`c ${conversation.id}`, () => this._toKeep(conversation));
  }

  private _tellChange(): void {
    const conversations = this._pendingChange;
    this._pendingChange = undefined;
    if (!conversations) return;
    this._emitter._emit("change", { conversations, list: [...conversations.values()].some(({ info }) => info) });
  }

  /** Nothing is kept of conversations that the user is not in. */
  private _toKeep({ _info: info, _timeline: timeline }: ConversationState): StoredConversation | undefined {
    if (!info.listed || !info.member) return undefined;
    return { info: { ...info, counted: [...info.counted] }, timeline: timeline._stored(this._limits._storedMax) };
  }

  private _keepMeta(): void {
    this._meta.position = this._reader._position;
    if (this._writes) this._keeper._put("meta", () => ({ ...this._meta }));
  }

  /** On phones, where an app in the background may be ended, the second one is the last event of a page. */
  private _listen(how: "addEventListener" | "removeEventListener"): void {
    for (const type of ["pagehide", "visibilitychange"]) globalThis[how]?.(type, this._hide);
  }

  /** The page may end with this: what waits for its moment, a read position or a write to the store, goes out now. */
  private readonly _hide = (): void => {
    for (const one of this._known.values()) one._sendRead();
    void this._keeper._write();
  };
}

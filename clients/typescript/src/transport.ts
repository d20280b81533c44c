/** The connection to a gateway: connects, logs in, matches replies to requests, and reconnects. */

import { Backoff } from "./backoff.js";
import { afterClose } from "./closing.js";
import type { Tokens } from "./tokens.js";
import { type ConnectionState, ImError, type Refusal, type WebSocketLike } from "./types.js";
import { socketUrl } from "./urls.js";
import { Cmd, type Frame, type Request, refusal, retryAfter } from "./wire.js";

/** What the login's answer says. */
export interface Login {
  user_id?: string;
  device_id?: string;
  server_time?: number;
  heartbeat_ms?: number;
  features?: string[];
}

/** Status of the connection, without what only the client knows. */
export type Status = Omit<ConnectionState, "synced">;

/** What the owner of a connection is told. */
export interface LinkEvents {
  /** Logged in. */
  online(login: Login): void;
  status(status: Status): void;
  /** Pushes, events and all replies to cmd 2 and 4, which concern all tabs that share the connection. */
  frame(frame: Frame): void;
  error(error: Error): void;
}

/** A connection, of this tab or of another one. */
export interface Link {
  start(): void;
  stop(): void;
  retryNow(): void;
  /**
   * Sends a request when online. Rejects with an {@link ImError} of code 0 if no reply came. `conversationId` is what
   * the reply names, for requests with `to`.
   */
  request(request: Request, conversationId?: string): Promise<Frame>;
  /** For connections of several tabs: from now on this tab has it. */
  lead?(): void;
  /** Where HTTP calls go. */
  readonly url: string;
}

/** How to connect. */
export interface TransportOptions {
  readonly urls: readonly string[];
  readonly userId: string | undefined;
  readonly tokens: Tokens | undefined;
  readonly deviceId: string;
  readonly webSocket: new (url: string) => WebSocketLike;
}

/** The server answers within 5 s; a connection that does not is dead. */
const REPLY_TIMEOUT_MS = 12_000;
const CONNECT_TIMEOUT_MS = 15_000;
/** A connection that held this long was a good one: delays begin anew. */
const GOOD_AFTER_MS = 5_000;
/** Between attempts to get and exchange a token that expires; the server warns 60 s before. */
const RENEW_EVERY_MS = 7_000;

interface Pending {
  readonly request: Request;
  readonly conversationId: string | undefined;
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: ImError) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Transport implements Link {
  private socket: WebSocketLike | undefined;
  private online = false;
  private onlineSince = 0;
  private stopped = true;
  private tokenTried = false;
  private n = 0;
  private nextId = 0;
  private pending: Pending[] = [];
  private readonly turns = new Map<string, Promise<void>>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private renewTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly backoff = new Backoff();

  constructor(
    private readonly options: TransportOptions,
    private readonly events: LinkEvents,
  ) {}

  get url(): string {
    return this.options.urls[this.n % this.options.urls.length] ?? "";
  }

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.backoff.reset();
    globalThis.addEventListener?.("online", this.retryNow);
    void this.connect();
  }

  stop(): void {
    this.end({ status: "idle" }, 1000);
  }

  readonly retryNow = (): void => {
    if (this.stopped || this.socket || this.timer === undefined) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    void this.connect();
  };

  request(request: Request, conversationId = request.conversation_id): Promise<Frame> {
    if (request.cmd === Cmd.Chat) return this.whenOnline(request, conversationId);
    // Answers of one command and conversation carry no id: one request is in flight at a time.
    const key = `${request.cmd} ${conversationId}`;
    const done = (this.turns.get(key) ?? Promise.resolve()).then(() => this.whenOnline(request, conversationId));
    const turn = done.then(
      () => undefined,
      () => undefined,
    );
    this.turns.set(key, turn);
    void turn.then(() => this.turns.get(key) === turn && this.turns.delete(key));
    return done;
  }

  private whenOnline(request: Request, conversationId: string | undefined): Promise<Frame> {
    if (!this.online) return Promise.reject(new ImError(0, "there is no connection"));
    return this.exchange(request, conversationId);
  }

  private exchange(request: Request, conversationId = request.conversation_id): Promise<Frame> {
    return new Promise((resolve, reject) => {
      const sent = { ...request, msg_id: request.msg_id ?? `r${this.nextId++}` };
      const timer = setTimeout(() => this.lost(this.socket, 1006, "a request was not answered"), REPLY_TIMEOUT_MS);
      this.pending.push({ request: sent, conversationId, resolve, reject, timer });
      try {
        this.socket?.send(JSON.stringify(sent));
      } catch {
        this.lost(this.socket, 1006, "the socket is closed");
      }
    });
  }

  private async connect(): Promise<void> {
    this.events.status({ status: "connecting" });
    let token: string | null | undefined;
    try {
      token = await this.options.tokens?.get();
    } catch (cause) {
      if (this.stopped || this.socket) return;
      this.events.error(new Error("the token provider failed", { cause }));
      this.wait(this.backoff.next(), { code: 0, message: "there is no token" });
      return;
    }
    if (this.stopped || this.socket) return;
    if (token === null) {
      this.end({ status: "stopped", reason: { code: 401, message: "the token provider ended the session" } });
      return;
    }
    const { userId, deviceId } = this.options;
    const query = token === undefined ? { user_id: userId ?? "", device_id: deviceId } : ({} as Record<string, string>);
    let socket: WebSocketLike;
    try {
      socket = new this.options.webSocket(socketUrl(this.url, query));
    } catch (cause) {
      this.end({ status: "stopped", reason: { code: 400, message: `${this.url}: ${String(cause)}` } });
      return;
    }
    this.socket = socket;
    this.timer = setTimeout(() => this.lost(socket, 1006, "connecting took too long"), CONNECT_TIMEOUT_MS);
    socket.addEventListener("open", () => void this.login(socket, token));
    socket.addEventListener("message", (event: { data: unknown }) => this.receive(socket, event.data));
    socket.addEventListener("close", (event: { code: number; reason: string }) =>
      this.lost(socket, event.code, event.reason),
    );
    socket.addEventListener("error", () => undefined);
  }

  private async login(socket: WebSocketLike, token: string | undefined): Promise<void> {
    if (socket !== this.socket) return;
    const payload = { token, device_id: this.options.deviceId };
    let reply: Frame;
    try {
      reply = await this.exchange(token === undefined ? { cmd: Cmd.Heartbeat } : { cmd: Cmd.Login, payload });
    } catch {
      return;
    }
    if (socket !== this.socket) return;
    if (reply.code !== 0) {
      const after = retryAfter(reply);
      const message = after === undefined ? refusal(reply).message : `retry_after_ms=${after}`;
      this.lost(socket, reply.code === 401 ? 4401 : 1012, message);
      return;
    }
    clearTimeout(this.timer);
    this.timer = undefined;
    this.online = true;
    this.onlineSince = Date.now();
    this.tokenTried = false;
    this.events.status({ status: "online" });
    this.events.online(reply.payload ?? {});
  }

  private receive(socket: WebSocketLike, data: unknown): void {
    if (socket !== this.socket || typeof data !== "string") return;
    let frame: Frame;
    try {
      frame = JSON.parse(data) as Frame;
    } catch {
      this.lost(socket, 1006, "a frame is no JSON object");
      return;
    }
    if (frame.cmd === Cmd.Push || frame.cmd === Cmd.Event) {
      if (frame.payload?.type === "token_expiring") this.renew();
      this.events.frame(frame);
      return;
    }
    if (frame.code === 401 && this.online && frame.cmd !== Cmd.Login) {
      // Nothing is answered any more without a new login.
      this.lost(socket, 4401, refusal(frame).message);
      return;
    }
    const matches = ({ request, conversationId }: Pending) =>
      request.cmd === frame.cmd &&
      (frame.msg_id !== undefined ? request.msg_id === frame.msg_id : conversationId === frame.conversation_id);
    const n = this.pending.findIndex(matches);
    const [found] = n < 0 ? [] : this.pending.splice(n, 1);
    if (found) clearTimeout(found.timer);
    if (frame.cmd === Cmd.Chat || frame.cmd === Cmd.Ack) this.events.frame(frame);
    found?.resolve(frame);
  }

  /** The token of this connection expires: exchanges it, and tries again until the connection ends. */
  private renew(): void {
    clearTimeout(this.renewTimer);
    const { tokens } = this.options;
    const { socket } = this;
    if (!tokens || !socket) return;
    const again = (error: Error) => {
      if (socket !== this.socket) return;
      this.events.error(error);
      this.renewTimer = setTimeout(() => this.renew(), RENEW_EVERY_MS);
    };
    tokens
      .renew("expiring")
      .then(async (token) => {
        if (token === null || socket !== this.socket) return;
        const reply = await this.exchange({ cmd: Cmd.Login, payload: { token } });
        if (reply.code !== 0) again(new ImError(reply.code, refusal(reply).message));
      })
      .catch((cause) => again(new Error("the token was not renewed", { cause })));
  }

  /** The connection is over, or was never there. */
  private lost(socket: WebSocketLike | undefined, code: number, message: string): void {
    if (!socket || socket !== this.socket) return;
    const wasOnline = this.online;
    this.drop(1000);
    const reason = { code, message };
    const next = afterClose(code, message);
    if (wasOnline && Date.now() - this.onlineSince > GOOD_AFTER_MS) this.backoff.reset();
    if (next.action === "stop" || (next.action === "token" && !this.options.tokens)) {
      this.end({ status: "stopped", reason });
    } else if (next.action === "token") {
      this.options.tokens?.refused();
      // At once with a new token; if that one is refused as well, after delays.
      const delay = this.tokenTried ? this.backoff.next() : Math.random() * 200;
      this.tokenTried = true;
      this.wait(delay, reason);
    } else {
      this.n++;
      this.wait(next.action === "wait" ? this.backoff.obey(next.ms) : this.backoff.next(), reason);
    }
  }

  private wait(ms: number, reason: Refusal): void {
    this.timer = setTimeout(() => {
      this.timer = undefined;
      void this.connect();
    }, ms);
    this.events.status({ status: "waiting", retryAt: Date.now() + ms, reason });
  }

  private end(status: Status, code = 1000): void {
    this.stopped = true;
    globalThis.removeEventListener?.("online", this.retryNow);
    this.drop(code);
    this.events.status(status);
  }

  /** Forgets the socket; its further events are ignored. */
  private drop(code: number): void {
    clearTimeout(this.timer);
    clearTimeout(this.renewTimer);
    this.timer = undefined;
    const { socket, pending } = this;
    this.socket = undefined;
    this.online = false;
    this.pending = [];
    try {
      socket?.close(code);
    } catch {
      // It was closed already.
    }
    for (const { reject, timer } of pending) {
      clearTimeout(timer);
      reject(new ImError(0, "the connection was lost"));
    }
  }
}

/** The connection to a gateway: connects, logs in, matches replies to requests, and reconnects. */

import { Backoff, ignore } from "./backoff.js";
import { afterClose } from "./closing.js";
import type { Tokens } from "./tokens.js";
import { type ConnectionState, ImError, type Refusal, type WebSocketLike } from "./types.js";
import { socketUrl } from "./urls.js";
import {
  CMD_ACK,
  CMD_CHAT,
  CMD_EVENT,
  CMD_HEARTBEAT,
  CMD_LOGIN,
  CMD_PUSH,
  errorOf,
  type Frame,
  type Request,
  refusal,
  retryAfter,
} from "./wire.js";

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
  _loggedIn(login: Login): void;
  _statusChanged(status: Status): void;
  /** Pushes, events and all replies to cmd 2 and 4, which concern all tabs that share the connection. */
  _frame(frame: Frame): void;
  _error(error: Error): void;
}

/** A connection, of this tab or of another one. */
export interface Link {
  _start(): void;
  _stop(): void;
  _retryNow(): void;
  /**
   * Sends a request when online. Rejects with an {@link ImError} of code 0 if no reply came. `conversationId` is what
   * the reply names, for requests with `to`.
   */
  _request(request: Request, conversationId?: string): Promise<Frame>;
  /** For connections of several tabs: from now on this tab has it. */
  _lead?(): void;
  /** Where HTTP calls go. */
  readonly _url: string;
}

/** How to connect. */
export interface TransportOptions {
  readonly _urls: readonly string[];
  readonly _userId: string | undefined;
  readonly _tokens: Tokens | undefined;
  readonly _deviceId: string;
  readonly _webSocket: new (url: string) => WebSocketLike;
}

/** The server answers within 5 s; a connection that does not is dead. */
const REPLY_TIMEOUT_MS = 12_000;
const CONNECT_TIMEOUT_MS = 15_000;
const NO_TOKEN = "there is no new token";
const NO_ANSWER = "the server does not answer";
/** A connection that held this long was a good one: delays begin anew. */
const GOOD_AFTER_MS = 5_000;
/** Between attempts to get and exchange a token that expires; the server warns 60 s before. */
const RENEW_EVERY_MS = 7_000;

interface Pending {
  readonly _request: Request;
  readonly _conversationId: string | undefined;
  readonly _resolve: (frame: Frame) => void;
  readonly _reject: (error: ImError) => void;
  readonly _timer: ReturnType<typeof setTimeout>;
}

/** There is no connection, or no more. */
export const lost = (): ImError => new ImError(0, "there is no connection");

export class Transport implements Link {
  private _socket: WebSocketLike | undefined;
  private _online = false;
  private _onlineSince = 0;
  private _stopped = true;
  private _tokenTried = false;
  private _n = 0;
  private _nextId = 0;
  private _pending: Pending[] = [];
  private readonly _turns = new Map<string, Promise<void>>();
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _renewTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly _backoff = new Backoff();

  constructor(
    private readonly _options: TransportOptions,
    private readonly _events: LinkEvents,
  ) {}

  get _url(): string {
    return this._options._urls[this._n % this._options._urls.length] ?? "";
  }

  _start(): void {
    if (!this._stopped) return;
    this._stopped = false;
    this._backoff._reset();
    globalThis.addEventListener?.("online", this._retryNow);
    void this._connect();
  }

  _stop(): void {
    this._end({ status: "idle" });
  }

  readonly _retryNow = (): void => {
    if (this._stopped || this._socket || this._timer === undefined) return;
    clearTimeout(this._timer);
    this._timer = undefined;
    void this._connect();
  };

  _request(request: Request, conversationId = request.conversation_id): Promise<Frame> {
    const send = () => (this._online ? this._exchange(request, conversationId) : Promise.reject(lost()));
    // Answers of other commands carry no id: of one command and conversation one request is in flight at a time. The
    // reader sees to that for read positions, unless the page ends.
    if (request.cmd === CMD_CHAT || request.cmd === CMD_ACK) return send();
    const key = `${request.cmd} ${conversationId}`;
    const done = (this._turns.get(key) ?? Promise.resolve()).then(send);
    const turn = done.then(ignore, ignore);
    this._turns.set(key, turn);
    void turn.then(() => this._turns.get(key) === turn && this._turns.delete(key));
    return done;
  }

  private _exchange(request: Request, conversationId = request.conversation_id): Promise<Frame> {
    return new Promise((resolve, reject) => {
      const sent = { ...request, msg_id: request.msg_id ?? `r${this._nextId++}` };
      const timer = setTimeout(() => this._lost(this._socket, 1006, NO_ANSWER), REPLY_TIMEOUT_MS);
      this._pending.push({
        _request: sent,
        _conversationId: conversationId,
        _resolve: resolve,
        _reject: reject,
        _timer: timer,
      });
      try {
        this._socket?.send(JSON.stringify(sent));
      } catch (cause) {
        this._lost(this._socket, 1006, `${cause}`);
      }
    });
  }

  private async _connect(): Promise<void> {
    this._events._statusChanged({ status: "connecting" });
    let token: string | null | undefined;
    try {
      token = await this._options._tokens?._get();
    } catch (cause) {
      if (this._stopped || this._socket) return;
      this._events._error(new Error(NO_TOKEN, { cause }));
      this._wait(this._backoff._next(), { code: 0, message: NO_TOKEN });
      return;
    }
    if (this._stopped || this._socket) return;
    if (token === null) {
      this._end({ status: "stopped", reason: { code: 401, message: "the token provider ended the session" } });
      return;
    }
    const { _userId: user_id = "", _deviceId: device_id } = this._options;
    let socket: WebSocketLike;
    try {
      socket = new this._options._webSocket(socketUrl(this._url, token === undefined ? { user_id, device_id } : {}));
    } catch (cause) {
      this._end({ status: "stopped", reason: { code: 400, message: `${this._url}: ${cause}` } });
      return;
    }
    this._socket = socket;
    this._timer = setTimeout(() => this._lost(socket, 1006, NO_ANSWER), CONNECT_TIMEOUT_MS);
    socket.addEventListener("open", () => void this._login(socket, token));
    socket.addEventListener("message", (event: { data: unknown }) => this._receive(socket, event.data));
    socket.addEventListener("close", (event: { code: number; reason: string }) =>
      this._lost(socket, event.code, event.reason),
    );
    socket.addEventListener("error", ignore);
  }

  private async _login(socket: WebSocketLike, token: string | undefined): Promise<void> {
    if (socket !== this._socket) return;
    const payload = { token, device_id: this._options._deviceId };
    let reply: Frame;
    try {
      reply = await this._exchange(token === undefined ? { cmd: CMD_HEARTBEAT } : { cmd: CMD_LOGIN, payload });
    } catch {
      return;
    }
    if (socket !== this._socket) return;
    if (reply.code !== 0) {
      const after = retryAfter(reply);
      const message = after === undefined ? refusal(reply).message : `retry_after_ms=${after}`;
      this._lost(socket, reply.code === 401 ? 4401 : 1012, message);
      return;
    }
    clearTimeout(this._timer);
    this._timer = undefined;
    this._online = true;
    this._onlineSince = Date.now();
    this._tokenTried = false;
    this._events._statusChanged({ status: "online" });
    this._events._loggedIn(reply.payload ?? {});
  }

  private _receive(socket: WebSocketLike, data: unknown): void {
    if (socket !== this._socket || typeof data !== "string") return;
    let frame: Frame;
    try {
      frame = JSON.parse(data) as Frame;
    } catch (cause) {
      this._lost(socket, 1006, `${cause}`);
      return;
    }
    if (frame.cmd === CMD_PUSH || frame.cmd === CMD_EVENT) {
      if (frame.payload?.type === "token_expiring") this._renew();
      this._events._frame(frame);
      return;
    }
    if (frame.code === 401 && this._online && frame.cmd !== CMD_LOGIN) {
      // Nothing is answered any more without a new login.
      this._lost(socket, 4401, refusal(frame).message);
      return;
    }
    const matches = ({ _request: request, _conversationId: conversationId }: Pending) =>
      request.cmd === frame.cmd &&
      (frame.msg_id !== undefined ? request.msg_id === frame.msg_id : conversationId === frame.conversation_id);
    const n = this._pending.findIndex(matches);
    const [found] = n < 0 ? [] : this._pending.splice(n, 1);
    if (found) clearTimeout(found._timer);
    if (frame.cmd === CMD_CHAT || frame.cmd === CMD_ACK) this._events._frame(frame);
    found?._resolve(frame);
  }

  /** The token of this connection expires: exchanges it, and tries again until the connection ends. */
  private _renew(): void {
    clearTimeout(this._renewTimer);
    const { _tokens: tokens } = this._options;
    const { _socket: socket } = this;
    if (!tokens || !socket) return;
    const again = (error: Error) => {
      if (socket !== this._socket) return;
      this._events._error(error);
      this._renewTimer = setTimeout(() => this._renew(), RENEW_EVERY_MS);
    };
    tokens
      ._renew("expiring")
      .then(async (token) => {
        if (token === null || socket !== this._socket) return;
        const reply = await this._exchange({ cmd: CMD_LOGIN, payload: { token } });
        if (reply.code !== 0) again(errorOf(refusal(reply)));
      })
      .catch((cause) => again(new Error(NO_TOKEN, { cause })));
  }

  /** The connection is over, or was never there. */
  private _lost(socket: WebSocketLike | undefined, code: number, message: string): void {
    if (!socket || socket !== this._socket) return;
    const wasOnline = this._online;
    this._drop();
    const reason = { code, message };
    const next = afterClose(code, message);
    if (wasOnline && Date.now() - this._onlineSince > GOOD_AFTER_MS) this._backoff._reset();
    if (next.action === "stop" || (next.action === "token" && !this._options._tokens)) {
      this._end({ status: "stopped", reason });
    } else if (next.action === "token") {
      this._options._tokens?._refused();
      // At once with a new token; if that one is refused as well, after delays.
      const delay = this._tokenTried ? this._backoff._next() : Math.random() * 200;
      this._tokenTried = true;
      this._wait(delay, reason);
    } else {
      this._n++;
      this._wait(next.action === "wait" ? this._backoff._obey(next.ms) : this._backoff._next(), reason);
    }
  }

  private _wait(ms: number, reason: Refusal): void {
    this._timer = setTimeout(() => {
      this._timer = undefined;
      void this._connect();
    }, ms);
    this._events._statusChanged({ status: "waiting", retryAt: Date.now() + ms, reason });
  }

  private _end(status: Status): void {
    this._stopped = true;
    globalThis.removeEventListener?.("online", this._retryNow);
    this._drop();
    this._events._statusChanged(status);
  }

  /** Forgets the socket; its further events are ignored. */
  private _drop(): void {
    clearTimeout(this._timer);
    clearTimeout(this._renewTimer);
    this._timer = undefined;
    const { _socket: socket, _pending: pending } = this;
    this._socket = undefined;
    this._online = false;
    this._pending = [];
    try {
      socket?.close(1000);
    } catch {
      // It was closed already.
    }
    for (const { _reject: reject, _timer: timer } of pending) {
      clearTimeout(timer);
      reject(lost());
    }
  }
}

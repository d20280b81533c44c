/**
 * Several tabs of one browser with the same store. One of them leads: it writes the store, takes over what closed tabs left
 * unsent, and, if the tabs share a device, has the connection. Each tab keeps its own state; tabs that do not lead send
 * requests to the one that does and get all frames from it.
 */

import { ignore } from "./backoff.js";
import type { OutboxItem } from "./outbox.js";
import { type Link, type LinkEvents, type Login, lost, type Status } from "./transport.js";
import type { Store } from "./types.js";
import type { Frame, Request } from "./wire.js";

/** A request of another tab is answered, or its connection is lost. */
const REPLY_TIMEOUT_MS = 20_000;

/** What tabs tell each other. */
type Word =
  | { say: "hello" }
  | { say: "retry" }
  | { say: "status"; status: Status; login?: Login | undefined }
  | { say: "frame"; frame: Frame }
  | { say: "request"; n: number; request: Request; conversationId?: string | undefined }
  | { say: "reply"; to: string; n: number; frame?: Frame | undefined };

/** With the tab that says it. */
type Said = Word & { from: string };

/** The tabs that use this store, as far as the browser lets them know of each other. */
export function tabsOf(store: Store & { name: string }, owner: string): Tabs | undefined {
  if (typeof BroadcastChannel === "undefined" || !globalThis.navigator?.locks) return undefined;
  return new Tabs(store, owner);
}

/** This tab among the others. */
export class Tabs {
  readonly _channel: BroadcastChannel;
  private readonly _leaving = new AbortController();

  constructor(
    private readonly _store: Store & { name: string },
    readonly _owner: string,
  ) {
    this._channel = new BroadcastChannel(`im ${_store.name}`);
  }

  /** Tells the others that this tab lives. */
  _join(): Promise<void> {
    return this._hold(` ${this._owner}`);
  }

  /** Resolves when this tab leads. */
  _lead(): Promise<void> {
    return this._hold("");
  }

  /** Calls `adopt` for what tabs leave unsent when they are closed, also those that are opened later. */
  async _watch(adopt: (items: OutboxItem[]) => Promise<void>): Promise<void> {
    const prefix = `im ${this._store.name} `;
    const seen = new Set([this._owner]);
    const watch = (owner: string) => {
      if (seen.has(owner)) return;
      seen.add(owner);
      navigator.locks
        .request(prefix + owner, { signal: this._leaving.signal }, async () =>
          adopt((await this._items()).filter((item) => item.owner === owner)),
        )
        .catch(ignore);
    };
    this._channel.addEventListener("message", ({ data }: MessageEvent<Said>) => watch(data.from));
    const { held = [] } = await navigator.locks.query();
    for (const { name = "" } of held) if (name.startsWith(prefix)) watch(name.slice(prefix.length));
    for (const { owner } of await this._items()) watch(owner);
  }

  /** Makes this tab known to the one that leads. */
  _hello(): void {
    this._post({ say: "hello" });
  }

  /** A connection that the tabs share; the one that leads has it. */
  _share(make: (events: LinkEvents) => Link, events: LinkEvents, url: string): Link {
    return new SharedLink(this, make, events, url);
  }

  _post(word: Word): void {
    try {
      this._channel.postMessage({ ...word, from: this._owner } satisfies Said);
    } catch {
      // The channel is closed: this tab is leaving.
    }
  }

  _leave(): void {
    this._leaving.abort();
    this._channel.close();
  }

  private async _items(): Promise<OutboxItem[]> {
    return [...(await this._store.load())]
      .filter(([key]) => key.startsWith("o "))
      .map(([, item]) => item as OutboxItem);
  }

  private _hold(suffix: string): Promise<void> {
    const { signal } = this._leaving;
    return new Promise((granted) => {
      const until = () => new Promise<void>((end) => signal.addEventListener("abort", () => end()));
      navigator.locks
        .request(`im ${this._store.name}${suffix}`, { signal }, () => {
          granted();
          return until();
        })
        .catch(ignore);
    });
  }
}

/** The connection of the tab that leads. */
class SharedLink implements Link {
  private _own: Link | undefined;
  private _login: Login | undefined;
  private _status: Status = { status: "connecting" };
  private _leader: string | undefined;
  private _n = 0;
  private readonly _pending = new Map<number, (frame: Frame | undefined) => void>();

  constructor(
    private readonly _tabs: Tabs,
    private readonly _make: (events: LinkEvents) => Link,
    private readonly _events: LinkEvents,
    private readonly _first: string,
  ) {}

  get _url(): string {
    return this._own?._url ?? this._first;
  }

  _start(): void {
    this._tabs._channel.addEventListener("message", ({ data }: MessageEvent<Said>) => this._hear(data));
    this._events._statusChanged(this._status);
  }

  /** From now on this tab has the connection. */
  _lead(): void {
    this._lost();
    const { _events: events } = this;
    this._own = this._make({
      _loggedIn: (login) => {
        this._login = login;
        this._tell();
        events._loggedIn(login);
      },
      _statusChanged: (status) => {
        this._status = status;
        this._login = undefined;
        // `online` follows with what the login says.
        if (status.status !== "online") this._tell();
        events._statusChanged(status);
      },
      _frame: (frame) => {
        this._tabs._post({ say: "frame", frame });
        events._frame(frame);
      },
      _error: (error) => events._error(error),
    });
    this._own._start();
  }

  _stop(): void {
    this._lost();
    this._own?._stop();
    this._events._statusChanged({ status: "idle" });
  }

  _retryNow(): void {
    if (this._own) this._own._retryNow();
    else this._tabs._post({ say: "retry" });
  }

  _request(request: Request, conversationId?: string): Promise<Frame> {
    if (this._own) return this._own._request(request, conversationId);
    return new Promise((resolve, reject) => {
      const n = this._n++;
      const end = (frame?: Frame) => {
        clearTimeout(timer);
        this._pending.delete(n);
        if (frame) resolve(frame);
        else reject(lost());
      };
      const timer = setTimeout(end, REPLY_TIMEOUT_MS);
      this._pending.set(n, end);
      this._tabs._post({ say: "request", n, request, conversationId });
    });
  }

  private _hear(word: Said): void {
    if (this._own) this._serve(word, this._own);
    else this._follow(word);
  }

  private _serve(word: Said, own: Link): void {
    if (word.say === "hello") this._tell();
    else if (word.say === "retry") own._retryNow();
    else if (word.say === "request") {
      const { from: to, n } = word;
      const answer = (frame?: Frame) => this._tabs._post({ say: "reply", to, n, frame });
      own._request(word.request, word.conversationId).then(answer, () => answer());
    }
  }

  private _follow(word: Said): void {
    if (word.say === "frame") this._events._frame(word.frame);
    else if (word.say === "reply" && word.to === this._tabs._owner) this._pending.get(word.n)?.(word.frame);
    else if (word.say === "status") {
      const again = this._leader !== word.from || this._status.status !== word.status.status;
      this._leader = word.from;
      this._status = word.status;
      if (again || !word.login) {
        this._lost();
        this._events._statusChanged(word.status);
        if (word.login) this._events._loggedIn(word.login);
      }
    }
  }

  private _tell(): void {
    this._tabs._post({ say: "status", status: this._status, login: this._login });
  }

  private _lost(): void {
    for (const end of [...this._pending.values()]) end(undefined);
  }
}

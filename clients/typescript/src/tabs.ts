/**
 * Several tabs of one browser with the same store. One of them leads: it writes the store, takes over what closed tabs left
 * unsent, and, if the tabs share a device, has the connection. Each tab keeps its own state; tabs that do not lead send
 * requests to the one that does and get all frames from it.
 */

import type { OutboxItem } from "./outbox.js";
import type { Link, LinkEvents, Login, Status } from "./transport.js";
import { ImError, type Store } from "./types.js";
import type { Frame, Request } from "./wire.js";

/** A request of another tab is answered, or its connection is lost. */
const REPLY_TIMEOUT_MS = 20_000;

/** What tabs tell each other. */
type Word =
  | { say: "hello"; from: string }
  | { say: "retry"; from: string }
  | { say: "status"; from: string; status: Status; login?: Login | undefined }
  | { say: "frame"; from: string; frame: Frame }
  | { say: "request"; from: string; n: number; request: Request; conversationId?: string | undefined }
  | { say: "reply"; from: string; to: string; n: number; frame?: Frame };

/** The tabs that use this store, as far as the browser lets them know of each other. */
export function tabsOf(store: Store & { name: string }, owner: string): Tabs | undefined {
  if (typeof BroadcastChannel === "undefined" || !globalThis.navigator?.locks) return undefined;
  return new Tabs(store, owner);
}

/** This tab among the others. */
export class Tabs {
  readonly channel: BroadcastChannel;
  private readonly leaving = new AbortController();

  constructor(
    private readonly store: Store & { name: string },
    readonly owner: string,
  ) {
    this.channel = new BroadcastChannel(`im ${store.name}`);
  }

  /** Tells the others that this tab lives. */
  join(): Promise<void> {
    return this.hold(` ${this.owner}`);
  }

  /** Resolves when this tab leads. */
  lead(): Promise<void> {
    return this.hold("");
  }

  /** Calls `adopt` for what tabs leave unsent when they are closed, also those that are opened later. */
  async watch(adopt: (items: OutboxItem[]) => Promise<void>): Promise<void> {
    const prefix = `im ${this.store.name} `;
    const seen = new Set([this.owner]);
    const watch = (owner: string) => {
      if (seen.has(owner)) return;
      seen.add(owner);
      navigator.locks
        .request(prefix + owner, { signal: this.leaving.signal }, async () =>
          adopt((await this.items()).filter((item) => item.owner === owner)),
        )
        .catch(() => undefined);
    };
    this.channel.addEventListener("message", ({ data }: MessageEvent<Word>) => watch(data.from));
    const { held = [] } = await navigator.locks.query();
    for (const { name = "" } of held) if (name.startsWith(prefix)) watch(name.slice(prefix.length));
    for (const { owner } of await this.items()) watch(owner);
  }

  /** Makes this tab known to the one that leads. */
  hello(): void {
    this.channel.postMessage({ say: "hello", from: this.owner } satisfies Word);
  }

  /** A connection that the tabs share; the one that leads has it. */
  share(make: (events: LinkEvents) => Link, events: LinkEvents, url: string): Link {
    return new SharedLink(this, make, events, url);
  }

  leave(): void {
    this.leaving.abort();
    this.channel.close();
  }

  private async items(): Promise<OutboxItem[]> {
    return [...(await this.store.load())].filter(([key]) => key.startsWith("o ")).map(([, item]) => item as OutboxItem);
  }

  private hold(suffix: string): Promise<void> {
    const { signal } = this.leaving;
    return new Promise((granted) => {
      const until = () => new Promise<void>((end) => signal.addEventListener("abort", () => end()));
      navigator.locks
        .request(`im ${this.store.name}${suffix}`, { signal }, () => {
          granted();
          return until();
        })
        .catch(() => undefined);
    });
  }
}

/** The connection of the tab that leads. */
class SharedLink implements Link {
  private own: Link | undefined;
  private login: Login | undefined;
  private status: Status = { status: "connecting" };
  private leader: string | undefined;
  private n = 0;
  private readonly pending = new Map<number, (frame: Frame | undefined) => void>();

  constructor(
    private readonly tabs: Tabs,
    private readonly make: (events: LinkEvents) => Link,
    private readonly events: LinkEvents,
    private readonly first: string,
  ) {}

  get url(): string {
    return this.own?.url ?? this.first;
  }

  start(): void {
    this.tabs.channel.addEventListener("message", ({ data }: MessageEvent<Word>) => this.hear(data));
    this.events.status(this.status);
  }

  /** From now on this tab has the connection. */
  lead(): void {
    this.lost();
    const { events } = this;
    this.own = this.make({
      online: (login) => {
        this.login = login;
        this.tell();
        events.online(login);
      },
      status: (status) => {
        this.status = status;
        this.login = undefined;
        // `online` follows with what the login says.
        if (status.status !== "online") this.tell();
        events.status(status);
      },
      frame: (frame) => {
        this.post({ say: "frame", from: this.tabs.owner, frame });
        events.frame(frame);
      },
      error: (error) => events.error(error),
    });
    this.own.start();
  }

  stop(): void {
    this.lost();
    this.own?.stop();
    this.events.status({ status: "idle" });
  }

  retryNow(): void {
    if (this.own) this.own.retryNow();
    else this.post({ say: "retry", from: this.tabs.owner });
  }

  request(request: Request, conversationId?: string): Promise<Frame> {
    if (this.own) return this.own.request(request, conversationId);
    return new Promise((resolve, reject) => {
      const n = this.n++;
      const end = (frame?: Frame) => {
        clearTimeout(timer);
        this.pending.delete(n);
        if (frame) resolve(frame);
        else reject(new ImError(0, "the connection was lost"));
      };
      const timer = setTimeout(end, REPLY_TIMEOUT_MS);
      this.pending.set(n, end);
      this.post({ say: "request", from: this.tabs.owner, n, request, conversationId });
    });
  }

  private hear(word: Word): void {
    if (this.own) this.serve(word, this.own);
    else this.follow(word);
  }

  private serve(word: Word, own: Link): void {
    if (word.say === "hello") this.tell();
    else if (word.say === "retry") own.retryNow();
    else if (word.say === "request") {
      const { from: to, n } = word;
      const answer = (frame?: Frame) =>
        this.post({ say: "reply", from: this.tabs.owner, to, n, ...(frame && { frame }) });
      own.request(word.request, word.conversationId).then(answer, () => answer());
    }
  }

  private follow(word: Word): void {
    if (word.say === "frame") this.events.frame(word.frame);
    else if (word.say === "reply" && word.to === this.tabs.owner) this.pending.get(word.n)?.(word.frame);
    else if (word.say === "status") {
      const again = this.leader !== word.from || this.status.status !== word.status.status;
      this.leader = word.from;
      this.status = word.status;
      if (again || !word.login) {
        this.lost();
        this.events.status(word.status);
        if (word.login) this.events.online(word.login);
      }
    }
  }

  private tell(): void {
    this.post({ say: "status", from: this.tabs.owner, status: this.status, login: this.login });
  }

  private lost(): void {
    for (const end of [...this.pending.values()]) end(undefined);
  }

  private post(word: Word): void {
    try {
      this.tabs.channel.postMessage(word);
    } catch {
      // The channel is closed: this tab is leaving.
    }
  }
}

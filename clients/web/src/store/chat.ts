/** One user's client, and signals for what the page shows of it. Changes arrive once per frame. */

import {
  type ConnectionState,
  type Conversation,
  ImClient,
  IndexedDbStore,
  MemoryStore,
  type Refusal,
} from "im-client";
import { type Accessor, batch, createMemo, createSignal, onCleanup, type Signal } from "solid-js";
import { Directory } from "./directory.ts";
import { Drafts } from "./drafts.ts";
import { FileLinks } from "./file-links.ts";
import { claims, type Session, session } from "./session.ts";
import { Trays } from "./tray.ts";

/** How long somebody counts as typing after an event. */
const TYPING_MS = 6_000;
/** A token is renewed this long before its end. */
export const RENEW_MS = 60_000;

export interface Chat {
  readonly client: ImClient;
  readonly me: string;
  readonly directory: Directory;
  readonly drafts: Drafts;
  readonly files: FileLinks;
  readonly trays: Trays;
  readonly connection: Accessor<ConnectionState>;
  readonly list: Accessor<readonly Conversation[]>;
  /** Rises with each change of any conversation's own data. */
  readonly changes: Accessor<number>;
  /** The server refuses this user for good. */
  readonly refused: Accessor<Refusal | undefined>;
  /** The client waits for the next token: the present one ends soon, or is refused. */
  readonly needsToken: Accessor<"expiring" | "refused" | undefined>;
  /** Milliseconds until the token ends, by the server's clock; `undefined` without one. */
  readonly tokenLeft: Accessor<number | undefined>;
  /** Milliseconds by which the server's clock is ahead. */
  readonly clockOffset: Accessor<number>;
  readonly features: Accessor<ReadonlySet<string>>;
  /** The rise of this number says that there are other invitations. */
  readonly invited: Accessor<number>;
  /** Reads a conversation so that the reader is told of its changes. */
  of(conversation: Conversation): Conversation;
  /** Who is typing there. */
  typing(conversationId: string): readonly string[];
  /** Forgets what this browser has stored of the user. */
  forget(): Promise<void>;
}

export function openChat(own: Session): Chat {
  const name = `im ${own.userId}`;
  const store = typeof indexedDB === "undefined" ? new MemoryStore() : new IndexedDbStore(name);
  const [tokenLeft, setTokenLeft] = createSignal<number | undefined>(undefined);
  const [asked, setAsked] = createSignal<Reason | undefined>(undefined);
  const client = new ImClient({
    url: location.origin,
    store,
    tabs: "own",
    ...(own.token === undefined ? { userId: own.userId } : { token: (reason: Reason) => tokenFor(reason, setAsked) }),
  });
  const [connection, setConnection] = createSignal<ConnectionState>(client.connection);
  const [list, setList] = createSignal<readonly Conversation[]>(client.conversations, { equals: false });
  const [changes, setChanges] = createSignal(0);
  const [refused, setRefused] = createSignal<Refusal | undefined>(undefined);
  const [clockOffset, setClockOffset] = createSignal(0);
  const [features, setFeatures] = createSignal<ReadonlySet<string>>(new Set());
  const [invited, setInvited] = createSignal(0);
  const needsToken = createMemo(() => {
    // Of several tabs only one is asked.
    const left = tokenLeft();
    const isLast = left !== undefined && left <= RENEW_MS;
    if (asked() === "refused" || (isLast && left <= 0)) return "refused";
    return asked() === "expiring" || isLast ? "expiring" : undefined;
  });
  const directory = new Directory(client, own.userId);
  const drafts = new Drafts(own.userId, client);
  const files = new FileLinks(client);
  const trays = new Trays(own.userId, files);

  const versions = new Map<string, Signal<number>>();
  const version = (id: string): Signal<number> => {
    let found = versions.get(id);
    if (!found) {
      found = createSignal(0);
      versions.set(id, found);
    }
    return found;
  };
  const typing = typists();

  const offs = [
    client.on("change", (change) =>
      batch(() => {
        for (const [id, { info }] of change.conversations) {
          versions.get(id)?.[1]((n) => n + 1);
          if (info) drafts.follow(client.conversation(id));
        }
        if (change.list) setList(client.conversations);
        setChanges((n) => n + 1);
        setFeatures(client.features);
      }),
    ),
    client.on("connection", (state) =>
      batch(() => {
        setConnection(state);
        if (client.clockOffset !== 0) setClockOffset(client.clockOffset);
        setFeatures(client.features);
        if (state.status === "online") directory.refresh();
        if (state.status === "online") setInvited((n) => n + 1);
        if (state.synced) drafts.syncAll();
      }),
    ),
    client.on("typing", ({ conversationId, userId }) => typing.begin(conversationId, userId)),
    client.on("messages", ({ conversation, messages }) => {
      for (const message of messages) typing.end(conversation.id, message.senderId);
    }),
    client.on("invited", () => setInvited((n) => n + 1)),
    client.on("error", (error) => console.warn("the client goes on after an error:", error.message)),
  ];
  // The answer to a login has the server's time; a demo name has no login.
  void serverTime().then((time) => {
    if (time !== undefined && clockOffset() === 0) setClockOffset(time - Date.now());
  });
  const countDown = setInterval(() => {
    const token = session()?.token;
    setTokenLeft(token === undefined ? undefined : leftOf(token, clockOffset()));
  }, 1_000);
  const leave = (): void => drafts.leave();
  window.addEventListener("pagehide", leave);
  const connectNow = (): void => {
    if (client.connection.status === "waiting") client.retryNow();
  };
  window.addEventListener("online", connectNow);
  client.start().then(
    () => setList(client.conversations),
    (error: Refusal) => setRefused({ code: error.code, message: error.message }),
  );
  onCleanup(() => {
    for (const off of offs) off();
    clearInterval(countDown);
    window.removeEventListener("pagehide", leave);
    window.removeEventListener("online", connectNow);
    leave();
    void client.stop();
  });

  return {
    client,
    me: own.userId,
    directory,
    drafts,
    files,
    trays,
    connection,
    list,
    changes,
    refused,
    needsToken,
    tokenLeft,
    clockOffset,
    features,
    invited,
    of(conversation) {
      version(conversation.id)[0]();
      return conversation;
    },
    typing: typing.of,
    async forget() {
      await client.stop();
      drafts.forget();
      trays.forget();
      directory.forget();
      if (store instanceof IndexedDbStore) await store.delete();
    },
  };
}

function leftOf(token: string, clockOffset: number): number | undefined {
  const found = claims(token);
  return found && found.exp - (Date.now() + clockOffset);
}

/** The server's clock, to the second, from the head of a response. */
async function serverTime(): Promise<number | undefined> {
  try {
    const response = await fetch("/web/icon.svg", { method: "HEAD", cache: "no-store" });
    const time = Date.parse(response.headers.get("date") ?? "");
    return Number.isNaN(time) ? undefined : time;
  } catch {
    return undefined;
  }
}

/** Why the client asks for a token. */
type Reason = "login" | "expiring" | "refused";

/**
 * The session's token, or, if that one ends or was refused, the next one, which the user gets with the password: until
 * then the client waits, and what is typed stays.
 */
async function tokenFor(reason: Reason, setWaiting: (reason: Reason | undefined) => void): Promise<string | null> {
  const present = session()?.token;
  if (present === undefined || reason === "login") return present ?? null;
  setWaiting(reason);
  await new Promise<void>((resolve) => {
    const poll = setInterval(() => {
      if (session()?.token === present) return;
      clearInterval(poll);
      resolve();
    }, 100);
  });
  setWaiting(undefined);
  return session()?.token ?? null;
}

/** Who is typing, by conversation. */
function typists(): {
  of(conversation: string): readonly string[];
  begin(conversation: string, user: string): void;
  end(conversation: string, user: string): void;
} {
  const signals = new Map<string, Signal<readonly string[]>>();
  const timers = new Map<string, ReturnType<typeof setTimeout>>();
  const signal = (id: string): Signal<readonly string[]> => {
    let found = signals.get(id);
    if (!found) {
      found = createSignal<readonly string[]>([]);
      signals.set(id, found);
    }
    return found;
  };
  const end = (conversation: string, user: string): void => {
    const key = `${conversation}\n${user}`;
    if (!timers.has(key)) return;
    clearTimeout(timers.get(key));
    timers.delete(key);
    signal(conversation)[1]((now) => now.filter((one) => one !== user));
  };
  onCleanup(() => {
    for (const timer of timers.values()) clearTimeout(timer);
  });
  return {
    of: (conversation) => signal(conversation)[0](),
    begin(conversation, user) {
      const key = `${conversation}\n${user}`;
      clearTimeout(timers.get(key));
      if (!timers.has(key)) signal(conversation)[1]((now) => [...now, user]);
      timers.set(
        key,
        setTimeout(() => end(conversation, user), TYPING_MS),
      );
    },
    end,
  };
}

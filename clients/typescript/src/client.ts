/** The client: wires transport, sync, conversations, store and calls. */

import { Blocks, Files, Groups, Invitations } from "./calls.js";
import { Http, type Query } from "./http.js";
import { Profiles } from "./profiles.js";
import {
  type AnyEvent,
  type ConnectionState,
  type Conversation,
  type Events,
  type ImClientOptions,
  ImError,
} from "./types.js";

/** A user's connection, conversations and calls. */
export class ImClient {
  readonly groups: Groups;
  readonly blocks: Blocks;
  readonly invitations: Invitations;
  readonly files: Files;
  readonly profiles: Profiles;
  private readonly http: Http;

  constructor(readonly options: ImClientOptions) {
    const fetcher = options.fetch ?? ((input, init) => fetch(input, init));
    const url = () => (typeof options.url === "string" ? options.url : (options.url[0] ?? ""));
    const credentials = { userId: options.userId, token: async () => (await options.token?.("login")) ?? null };
    this.http = new Http(url, credentials, fetcher);
    this.groups = new Groups(this.http);
    this.blocks = new Blocks(this.http);
    this.invitations = new Invitations(this.http);
    this.files = new Files(this.http, fetcher);
    this.profiles = new Profiles(this.http);
  }

  /** State of the connection. */
  get connection(): ConnectionState {
    return { status: "idle", synced: false };
  }

  /** Your user id: known once `start` has resolved. */
  get userId(): string {
    throw unfinished();
  }

  /** Your device id. */
  get deviceId(): string {
    throw unfinished();
  }

  /** What the server can do beyond the basics, such as `edit`, `reactions`, `profiles`. Empty until the first login. */
  get features(): ReadonlySet<string> {
    return new Set();
  }

  /** Milliseconds by which the server's clock is ahead of this one. */
  get clockOffset(): number {
    return 0;
  }

  /**
   * Loads the store and connects. Resolves when the user is known: from the store, from `userId`, or by the first login;
   * rejects if the server refuses this client for good. Everything else comes as it is there.
   */
  start(): Promise<void> {
    throw unfinished();
  }

  /** Closes the connection and writes what is to be kept. `start` begins again. */
  stop(): Promise<void> {
    throw unfinished();
  }

  /** Connects at once if the client waits for its next attempt. */
  retryNow(): void {
    throw unfinished();
  }

  /** Calls `listener` for each event of this name, until the returned function is called. */
  on<K extends keyof Events>(type: K, listener: (event: Events[K]) => void): () => void {
    throw unfinished(type, listener);
  }

  /**
   * Events as an async iterator: of these names, or all. A reader that is 10,000 events behind gets an error and ends,
   * since it would miss some.
   */
  events<K extends keyof Events>(...types: K[]): AsyncIterableIterator<Extract<AnyEvent, { type: K }>> {
    throw unfinished(types);
  }

  /** All conversations, the one with the newest change first. Another array after each change. */
  get conversations(): readonly Conversation[] {
    return [];
  }

  /** A conversation by its id; made up if it is not in the list yet. */
  conversation(id: string): Conversation {
    throw unfinished(id);
  }

  /** The private chat with this user. */
  direct(userId: string): Conversation {
    throw unfinished(userId);
  }

  /** Who of up to 100 users is connected. */
  async presence(userIds: readonly string[]): Promise<Map<string, boolean>> {
    type Answer = { users: { user_id: string; online: boolean }[] };
    const answer = await this.http.call<Answer>("POST", "/api/presence", { user_ids: userIds });
    return new Map(answer.users.map((user) => [user.user_id, user.online]));
  }

  /** Replaces the list of users whose coming and going is told as `presence`, at most 200; renewed after a reconnect. */
  watchPresence(userIds: readonly string[]): void {
    throw unfinished(userIds);
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
}

const unfinished = (..._: unknown[]) => new ImError(0, "this part of the SDK is not written yet");

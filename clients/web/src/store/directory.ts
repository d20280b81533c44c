/** Names, pictures and presence of users, and names of groups: asked for when they are shown, in few calls. */

import type { Group, ImClient } from "im-client";
import { createSignal, onCleanup, type Signal } from "solid-js";
import { local } from "../lib/storage.ts";

/** What a user shows of itself. */
interface Person {
  readonly name: string;
  readonly avatar?: string | null | undefined;
}

export interface Presence {
  online: boolean;
  lastSeen?: number;
}

/** Group names that are kept over a reload. */
const NAMES_KEPT = 1_000;
/** Between two calls for groups: a user may make 20 calls a second. */
const CALL_PAUSE_MS = 120;
/** Most users whose presence is followed. */
const WATCHED_MAX = 200;
const POLL_MS = 20_000;

export class Directory {
  private readonly users = new Map<string, Signal<Person | undefined>>();
  private readonly groups = new Map<string, Signal<Group | undefined>>();
  private readonly presences = new Map<string, Signal<Presence | undefined>>();
  private readonly names: Map<string, string>;
  private readonly watched = new Map<string, number>();
  private wantedUsers = new Set<string>();
  private readonly wantedGroups: string[] = [];
  private isAskingGroups = false;
  private watching: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly client: ImClient,
    private readonly owner: string,
  ) {
    this.names = new Map(read(`im.names.${owner}`));
    const poll = setInterval(() => {
      if (!client.features.has("presence_events")) void this.poll();
    }, POLL_MS);
    const offPresence = client.on("presence", ({ userId, online, lastSeen }) => {
      // The answer to a new list does not say when a user was seen last, which may be known already.
      const seen = online ? undefined : (lastSeen ?? this.presence(userId)[0]()?.lastSeen);
      this.presence(userId)[1](seen === undefined ? { online } : { online, lastSeen: seen });
    });
    // A user who sends a message is online. Without presence events, the presence of others may be outdated.
    const offTyping = client.on("typing", ({ userId }) => this.presence(userId)[1]({ online: true }));
    const offMessages = client.on("messages", () => {
      if (!client.features.has("presence_events")) this.watchSoon(2_000);
    });
    const offGroup = client.on("group", ({ conversationId }) => {
      if (this.groups.has(conversationId)) void this.loadGroup(conversationId);
    });
    onCleanup(() => {
      clearInterval(poll);
      clearTimeout(this.watching);
      offPresence();
      offTyping();
      offMessages();
      offGroup();
    });
  }

  /** The name to show for a user. */
  user(id: string): string {
    return this.person(id)[0]()?.name || id;
  }

  /** The file of the picture of a user or group, as far as it is known. */
  avatar(kind: "private" | "group", id: string): string | undefined {
    return (kind === "group" ? this.group(id)?.avatar : this.person(id)[0]()?.avatar) ?? undefined;
  }

  /** Shows this from now on: the user has just chosen it. */
  setUser(id: string, change: Partial<Person>): void {
    this.person(id)[1]((now) => ({ name: "", ...now, ...change }));
  }

  /** A group, as far as it is known; it is asked for at the first call. */
  group(id: string): Group | undefined {
    let signal = this.groups.get(id);
    if (!signal) {
      signal = createSignal<Group | undefined>(undefined);
      this.groups.set(id, signal);
      this.wantedGroups.push(id);
      void this.askGroups();
    }
    return signal[0]();
  }

  /** The name to show for a group. */
  groupName(id: string): string {
    return this.group(id)?.name || this.names.get(id) || id.replace(/^group_/, "");
  }

  /** A name that is known already, for searches: nothing is asked for. */
  knownName(kind: "private" | "group", id: string): string {
    if (kind === "private") return this.users.get(id)?.[0]()?.name ?? "";
    return this.groups.get(id)?.[0]()?.name ?? this.names.get(id) ?? "";
  }

  /** Asks for a group again. Rejects if it cannot be read. */
  async loadGroup(id: string): Promise<Group> {
    this.group(id);
    const group = await this.client.groups.get(id);
    this.groups.get(id)?.[1](group);
    if (this.names.get(id) !== group.name) {
      this.names.delete(id);
      this.names.set(id, group.name);
      local.set(`im.names.${this.owner}`, JSON.stringify([...this.names].slice(-NAMES_KEPT)));
    }
    return group;
  }

  /** Whether a user is connected; `undefined` while that is not known. */
  online(id: string): Presence | undefined {
    return this.presence(id)[0]();
  }

  /** Follows a user's presence while it is shown. Returns the end of it. */
  watch(id: string): () => void {
    this.watched.set(id, (this.watched.get(id) ?? 0) + 1);
    this.watchSoon();
    return () => {
      const left = (this.watched.get(id) ?? 1) - 1;
      if (left > 0) this.watched.set(id, left);
      else this.watched.delete(id);
      this.watchSoon();
    };
  }

  /** Asks again, after a reconnect. */
  refresh(): void {
    this.watchSoon();
    for (const id of this.users.keys()) {
      if (this.users.get(id)?.[0]() === undefined) this.wantUser(id);
    }
    if (this.wantedGroups.length > 0) void this.askGroups();
  }

  forget(): void {
    local.set(`im.names.${this.owner}`, null);
  }

  private person(id: string): Signal<Person | undefined> {
    let signal = this.users.get(id);
    if (!signal) {
      signal = createSignal<Person | undefined>(undefined, {
        equals: (a, b) => a?.name === b?.name && a?.avatar === b?.avatar,
      });
      this.users.set(id, signal);
      this.wantUser(id);
    }
    return signal;
  }

  private presence(id: string): Signal<Presence | undefined> {
    let signal = this.presences.get(id);
    if (!signal) {
      signal = createSignal<Presence | undefined>(undefined, {
        equals: (a, b) => a?.online === b?.online && a?.lastSeen === b?.lastSeen,
      });
      this.presences.set(id, signal);
    }
    return signal;
  }

  private watchSoon(after = 250): void {
    if (after > 250 && this.watching !== undefined) return;
    clearTimeout(this.watching);
    this.watching = setTimeout(() => {
      this.watching = undefined;
      const ids = [...this.watched.keys()].slice(-WATCHED_MAX);
      if (this.client.features.has("presence_events")) this.client.watchPresence(ids);
      else void this.poll();
    }, after);
  }

  private async poll(): Promise<void> {
    if (document.visibilityState === "hidden" || this.client.connection.status !== "online") return;
    const ids = [...this.watched.keys()].slice(-100);
    if (ids.length === 0) return;
    try {
      const found = await this.client.presence(ids);
      for (const id of ids) this.presence(id)[1](found.has(id) ? { online: found.get(id) === true } : undefined);
    } catch {
      // The next poll asks again.
    }
  }

  private wantUser(id: string): void {
    if (this.wantedUsers.size === 0) setTimeout(() => void this.askUsers(), 30);
    this.wantedUsers.add(id);
  }

  private async askUsers(): Promise<void> {
    const ids = [...this.wantedUsers];
    this.wantedUsers = new Set();
    if (!this.client.features.has("profiles")) return;
    try {
      const found = await this.client.profiles.get(ids);
      for (const id of ids) {
        const { nickname: name = "", avatar } = found.get(id) ?? {};
        this.users.get(id)?.[1]({ name, avatar });
      }
    } catch {
      // Ids are shown; they are asked for again after a reconnect.
    }
  }

  private async askGroups(): Promise<void> {
    if (this.isAskingGroups) return;
    this.isAskingGroups = true;
    // What is shown now was asked for last.
    for (let id = this.wantedGroups.pop(); id !== undefined; id = this.wantedGroups.pop()) {
      if (this.client.connection.status !== "online") {
        this.wantedGroups.push(id);
        break;
      }
      try {
        await this.loadGroup(id);
      } catch {
        // It may be dismissed: its id is shown.
      }
      await new Promise((resolve) => setTimeout(resolve, CALL_PAUSE_MS));
    }
    this.isAskingGroups = false;
  }
}

function read(key: string): [string, string][] {
  try {
    const found: unknown = JSON.parse(local.get(key) ?? "[]");
    return Array.isArray(found) ? (found as [string, string][]) : [];
  } catch {
    return [];
  }
}

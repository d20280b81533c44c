/** The calls over HTTP, by subject. Limits, codes and meanings are those of the protocol's table of calls. */

import { type Http, segment } from "./http.js";
import type { Group, Member } from "./types.js";

class Calls {
  constructor(/** @internal */ readonly _http: Http) {}
}

/** Groups. */
export class Groups extends Calls {
  /** Makes a group; you are its owner. `invited` are users who want to be asked first. */
  create(group: {
    conversation_id?: string;
    name?: string;
    members?: readonly string[];
    history?: "start" | "joining";
  }): Promise<{ conversation_id: string; invited?: string[] }> {
    return this._http._call("POST", "/api/groups", group);
  }

  /** What it is, and your role. */
  get(id: string): Promise<Group> {
    return this._http._call("GET", path(id));
  }

  /** Changes it, as owner or admin. */
  async update(
    id: string,
    change: {
      name?: string;
      muted?: boolean;
      history?: "start" | "joining";
      avatar?: string | null;
      notice?: string | null;
      meta?: unknown;
    },
  ): Promise<void> {
    await this._http._call("PATCH", path(id), change);
  }

  /** Dismisses the group for good; its owner only. */
  async dismiss(id: string): Promise<void> {
    await this._http._call("DELETE", path(id));
  }

  /** A page of its members, by the order of ids. */
  members(id: string, cursor?: string, limit?: number): Promise<{ members: Member[]; next_cursor?: string }> {
    return this._http._call("GET", `${path(id)}/members`, undefined, { cursor, limit });
  }

  /** Adds up to 1,000 members. `invited` are users who want to be asked first. */
  add(id: string, userIds: readonly string[]): Promise<{ invited?: string[] }> {
    return this._http._call("POST", `${path(id)}/members`, { user_ids: userIds });
  }

  /** Removes a member; with your own id: leaves. */
  async remove(id: string, userId: string): Promise<void> {
    await this._http._call("DELETE", `${path(id)}/members/${segment(userId)}`);
  }

  /** Changes a member's role, or mutes the member until `muted_until` (ms since 1970, 0 to end it). */
  async setMember(
    id: string,
    userId: string,
    change: { role?: "member" | "admin" | "owner"; muted_until?: number },
  ): Promise<void> {
    await this._http._call("PATCH", `${path(id)}/members/${segment(userId)}`, change);
  }
}

/** Users whom you have blocked. */
export class Blocks extends Calls {
  /** A page of them. */
  list(cursor?: string, limit?: number): Promise<{ user_ids: string[]; next_cursor?: string }> {
    return this._http._call("GET", "/api/blocks", undefined, { cursor, limit });
  }

  /** Blocks a user. */
  async add(userId: string): Promise<void> {
    await this._http._call("POST", "/api/blocks", { user_id: userId });
  }

  /** Ends a block. */
  async remove(userId: string): Promise<void> {
    await this._http._call("DELETE", `/api/blocks/${segment(userId)}`);
  }
}

/** Invitations into groups, and who may add you without one. */
export class Invitations extends Calls {
  /** A page of the open ones. */
  list(
    cursor?: string,
    limit?: number,
  ): Promise<{
    invitations: { conversation_id: string; name: string; invited_by: string; created_at: number }[];
    next_cursor?: string;
  }> {
    return this._http._call("GET", "/api/invitations", undefined, { cursor, limit });
  }

  /** Accepts: you are a member. */
  async accept(id: string): Promise<void> {
    await this._http._call("POST", `/api/invitations/${segment(id)}`);
  }

  /** Declines. */
  async decline(id: string): Promise<void> {
    await this._http._call("DELETE", `/api/invitations/${segment(id)}`);
  }

  /** Who may add you to groups. */
  settings(): Promise<{ group_adds: "everyone" | "contacts" | "nobody" }> {
    return this._http._call("GET", "/api/settings");
  }

  /** Changes who may add you to groups. */
  async setSettings(change: { group_adds: "everyone" | "contacts" | "nobody" }): Promise<void> {
    await this._http._call("PATCH", "/api/settings", change);
  }
}

const path = (group: string): string => `/api/groups/${segment(group)}`;

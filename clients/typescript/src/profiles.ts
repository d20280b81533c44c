/** Profiles, with a cache. */

import type { Http } from "./http.js";
import type { Profile } from "./types.js";

/** How long a profile, or its absence, is taken from the cache. */
const VALID_MS = 300_000;
/** Profiles in the cache; the oldest go first. */
const CACHED_MAX = 5_000;
/** Ids in one call. */
const CALL_MAX = 100;

/** Profiles of users. Requests of one turn are answered by one call, and answers are kept for five minutes. */
export class Profiles {
  private readonly cache = new Map<string, { profile: Profile | undefined; until: number }>();
  private pending: Map<string, Promise<Profile | undefined>> = new Map();
  private batch: { ids: string[]; done: Promise<Map<string, Profile>> } | undefined;

  constructor(private readonly http: Http) {}

  /** The profiles of these users; users without one are left out. */
  async get(userIds: readonly string[]): Promise<Map<string, Profile>> {
    const found = new Map<string, Profile>();
    await Promise.all(
      [...new Set(userIds)].map(async (id) => {
        const profile = await this.one(id);
        if (profile) found.set(id, profile);
      }),
    );
    return found;
  }

  /** What the cache has of this user, without a call. */
  peek(userId: string): Profile | undefined {
    return this.cache.get(userId)?.profile;
  }

  /** Your own profile. */
  async me(): Promise<Profile> {
    return this.keep(await this.http.call<Profile>("GET", "/api/users/me"));
  }

  /** Changes your own profile. */
  async update(change: { nickname?: string; avatar?: string | null; meta?: unknown }): Promise<void> {
    await this.http.call("PATCH", "/api/users/me", change);
    await this.me();
  }

  /** Forgets what the cache has of this user. */
  forget(userId: string): void {
    this.cache.delete(userId);
  }

  private one(id: string): Promise<Profile | undefined> {
    const cached = this.cache.get(id);
    if (cached && cached.until > Date.now()) return Promise.resolve(cached.profile);
    const pending = this.pending.get(id);
    if (pending) return pending;
    const asked = this.load(id).finally(() => this.pending.delete(id));
    this.pending.set(id, asked);
    return asked;
  }

  private async load(id: string): Promise<Profile | undefined> {
    let batch = this.batch;
    if (!batch || batch.ids.length >= CALL_MAX) {
      const ids: string[] = [];
      const done = Promise.resolve().then(async () => {
        if (this.batch?.ids === ids) this.batch = undefined;
        // By a body-less GET, ids are separated by commas; an id with a comma has no profile by this call.
        const asked = ids.filter((one) => !one.includes(","));
        if (asked.length === 0) return new Map<string, Profile>();
        const answer = await this.http.call<{ users: Profile[] }>("GET", "/api/users", undefined, {
          user_ids: asked.join(","),
        });
        return new Map(answer.users.map((user) => [user.user_id, user]));
      });
      batch = this.batch = { ids, done };
    }
    batch.ids.push(id);
    const profile = (await batch.done).get(id);
    this.put(id, profile);
    return profile;
  }

  private keep(profile: Profile): Profile {
    this.put(profile.user_id, profile);
    return profile;
  }

  private put(id: string, profile: Profile | undefined): void {
    this.cache.delete(id);
    this.cache.set(id, { profile, until: Date.now() + VALID_MS });
    for (const oldest of this.cache.keys()) {
      if (this.cache.size <= CACHED_MAX) break;
      this.cache.delete(oldest);
    }
  }
}

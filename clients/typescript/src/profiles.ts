/** Profiles, with a cache. */

import type { Http } from "./http.js";
import type { Profile } from "./types.js";

/** How long a profile, or its absence, is taken from the cache. */
const VALID_MS = 300_000;
/** Profiles in the cache; the oldest go first. */
const CACHED_MAX = 5_000;
/** Ids in one call. */
const CALL_MAX = 100;

interface Cached {
  readonly _until: number;
  /** Resolves when the call that asks for it is answered. */
  readonly _asked: Promise<unknown>;
  _profile?: Profile | undefined;
}

/** Profiles of users. One call asks for up to 100, and answers are kept for five minutes. */
export class Profiles {
  private readonly _cache = new Map<string, Cached>();

  constructor(private readonly _http: Http) {}

  /** The profiles of these users; users without one are left out. */
  async get(userIds: readonly string[]): Promise<Map<string, Profile>> {
    const now = Date.now();
    // In the call's list, ids are separated by commas.
    const ids = userIds.filter((id) => !id.includes(","));
    const missing = ids.filter((id) => !((this._cache.get(id)?._until ?? 0) > now));
    for (let n = 0; n < missing.length; n += CALL_MAX) this._ask(missing.slice(n, n + CALL_MAX), now + VALID_MS);
    const entries = ids.map((id) => [id, this._cache.get(id)] as const);
    await Promise.all(entries.map(([, entry]) => entry?._asked));
    return new Map(entries.flatMap(([id, entry]) => (entry?._profile ? [[id, entry._profile] as const] : [])));
  }

  /** What the cache has of this user, without a call. */
  peek(userId: string): Profile | undefined {
    return this._cache.get(userId)?._profile;
  }

  /** Your own profile. */
  me(): Promise<Profile> {
    return this._http._call("GET", "/api/users/me");
  }

  /** Changes your own profile, and returns it. */
  async update(change: { nickname?: string; avatar?: string | null; meta?: unknown }): Promise<Profile> {
    const profile = await this._http._call<Profile>("PATCH", "/api/users/me", change);
    this.forget(profile.user_id);
    return profile;
  }

  /** Forgets what the cache has of this user. */
  forget(userId: string): void {
    this._cache.delete(userId);
  }

  private _ask(ids: readonly string[], until: number): void {
    const asked = this._http
      ._call<{ users: Profile[] }>("GET", "/api/users", undefined, { user_ids: ids.join() })
      .then(({ users }) => {
        for (const user of users) {
          const entry = this._cache.get(user.user_id);
          if (entry) entry._profile = user;
        }
      })
      .catch((error) => {
        // The next request asks again.
        for (const id of ids) this._cache.delete(id);
        throw error;
      });
    asked.catch(() => undefined);
    for (const id of ids) {
      this._cache.delete(id);
      this._cache.set(id, { _until: until, _asked: asked });
    }
    for (const oldest of this._cache.keys()) {
      if (this._cache.size <= CACHED_MAX) break;
      this._cache.delete(oldest);
    }
  }
}

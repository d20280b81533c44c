/** The blurred picture that stands for one that has not loaded. */

import { thumbHashToDataURL } from "thumbhash";

/** Each takes a few kilobytes; the oldest go first. */
const CACHED_MAX = 300;
const cache = new Map<string, string>();

/** The data URL of the picture that a thumbhash (base64) describes; empty without a valid one. */
export function placeholder(thumbhash: string | undefined): string {
  if (!thumbhash) return "";
  let found = cache.get(thumbhash);
  if (found === undefined) {
    try {
      found = thumbHashToDataURL(Uint8Array.from(atob(thumbhash), (char) => char.charCodeAt(0)));
    } catch {
      found = "";
    }
    cache.set(thumbhash, found);
    for (const oldest of cache.keys()) {
      if (cache.size <= CACHED_MAX) break;
      cache.delete(oldest);
    }
  }
  return found;
}

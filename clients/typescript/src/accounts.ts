/** Accounts of servers with `auth.accounts = true`. */

import { Http } from "./http.js";
import { httpBase } from "./urls.js";

/** A token and its end in milliseconds since 1970. */
export interface Token {
  readonly token: string;
  readonly expires_at: number;
}

/** Makes an account and a token for it. Passwords have 8 characters at least. 409: the user id is taken. */
export function register(
  url: string,
  account: { user_id: string; password: string; nickname?: string },
  fetcher?: typeof fetch,
): Promise<Token> {
  return nobody(url, fetcher).call("POST", "/api/register", account);
}

/** A token for an account. 401: unknown user or wrong password. */
export function login(
  url: string,
  account: { user_id: string; password: string },
  fetcher?: typeof fetch,
): Promise<Token> {
  return nobody(url, fetcher).call("POST", "/api/login", account);
}

function nobody(url: string, fetcher?: typeof fetch): Http {
  return new Http(() => httpBase(url), undefined, fetcher ?? ((input, init) => fetch(input, init)));
}

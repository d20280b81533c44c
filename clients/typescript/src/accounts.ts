/** Accounts of servers with `auth.accounts = true`. */

import { globalFetch, Http } from "./http.js";
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
  return post(url, "register", account, fetcher);
}

/** A token for an account. 401: unknown user or wrong password. */
export function login(
  url: string,
  account: { user_id: string; password: string },
  fetcher?: typeof fetch,
): Promise<Token> {
  return post(url, "login", account, fetcher);
}

const post = (url: string, what: string, account: unknown, fetcher = globalFetch): Promise<Token> =>
  new Http(() => httpBase(url), fetcher)._call("POST", `/api/${what}`, account);

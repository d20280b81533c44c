/** The token, and when a new one is asked for. */

import type { ImClientOptions } from "./types.js";

type Provider = NonNullable<ImClientOptions["token"]>;

/** Keeps the present token until the server refuses it or a new one is there. Requests at the same time share a call. */
export class Tokens {
  private _current: string | undefined;
  private _asked: Promise<string | null> | undefined;
  private _reason: Parameters<Provider>[0] = "login";

  constructor(private readonly _provider: Provider) {}

  /** The current token, or a new one; certainly a new one if the server did not take the current one. */
  async _get(refused = false): Promise<string | null> {
    if (refused) this._refused();
    return this._current ?? this._renew(this._reason);
  }

  /** A new token. The present one stays until it is there. */
  _renew(reason: Parameters<Provider>[0]): Promise<string | null> {
    this._asked ??= this._ask(reason).finally(() => {
      this._asked = undefined;
    });
    return this._asked;
  }

  /** The server does not take the present one. */
  _refused(): void {
    this._current = undefined;
    this._reason = "refused";
  }

  private async _ask(reason: Parameters<Provider>[0]): Promise<string | null> {
    const token = await this._provider(reason);
    if (token !== null) this._current = token;
    return token;
  }
}

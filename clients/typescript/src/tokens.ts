/** The token, and when a new one is asked for. */

import type { ImClientOptions } from "./types.js";

type Provider = NonNullable<ImClientOptions["token"]>;

/** Keeps the present token until the server refuses it or a new one is there. Requests at the same time share a call. */
export class Tokens {
  private current: string | undefined;
  private asked: Promise<string | null> | undefined;
  private reason: Parameters<Provider>[0] = "login";

  constructor(private readonly provider: Provider) {}

  /** The current token, or a new one. */
  async get(): Promise<string | null> {
    return this.current ?? this.renew(this.reason);
  }

  /** A new token. The present one stays until it is there. */
  renew(reason: Parameters<Provider>[0]): Promise<string | null> {
    this.asked ??= this.ask(reason).finally(() => {
      this.asked = undefined;
    });
    return this.asked;
  }

  /** The server does not take the present one. */
  refused(): void {
    this.current = undefined;
    this.reason = "refused";
  }

  private async ask(reason: Parameters<Provider>[0]): Promise<string | null> {
    const token = await this.provider(reason);
    if (token !== null) this.current = token;
    return token;
  }
}

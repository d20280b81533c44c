/** Addresses of pictures and files that are shown: asked for together, and again when they have expired. */

import { type FileSize, Files, type ImClient, isPicture, type Message } from "im-client";
import { createSignal, onCleanup, type Signal, untrack } from "solid-js";

/** A file that could not be shown is asked for again after this time at the earliest. */
const AGAIN_MS = 30_000;
/** Own files that are shown from memory after they were sent; the oldest go first. */
const LOCAL_MAX = 40;
/** Pictures of a page of messages whose addresses are asked for before they are scrolled to. */
const AHEAD_MAX = 200;

interface Shown {
  /** Null: the server gives no address, or what is there cannot be shown. */
  readonly signal: Signal<string | null | undefined>;
  isAsking: boolean;
  failedAt: number;
}

export class FileLinks {
  readonly files: Files;
  private readonly shown = new Map<string, Shown>();
  private readonly local = new Map<string, string>();

  constructor(client: ImClient) {
    this.files = new Files(client);
    const off = client.on("connection", ({ status }) => {
      if (status !== "online") return;
      for (const [key, one] of this.shown) if (untrack(one.signal[0]) === undefined) this.ask(key, one);
    });
    onCleanup(() => {
      off();
      for (const url of this.local.values()) URL.revokeObjectURL(url);
    });
  }

  /** The address of a file; undefined while it is not known, null if the file cannot be shown. */
  url(fileId: string, size: FileSize): string | null | undefined {
    const own = this.local.get(fileId);
    if (own !== undefined) return own;
    const key = `${size} ${fileId}`;
    let one = this.shown.get(key);
    if (!one) {
      one = {
        signal: createSignal<string | null | undefined>(this.files.peek(fileId, size)),
        isAsking: false,
        failedAt: 0,
      };
      this.shown.set(key, one);
    }
    const isFailed = untrack(one.signal[0]) === null && Date.now() - one.failedAt < AGAIN_MS;
    if (!isFailed && this.files.peek(fileId, size) === undefined) this.ask(key, one);
    return one.signal[0]();
  }

  /** Asks for the small pictures of these messages in few calls, not for each one when it is scrolled to. */
  prepare(messages: readonly Message[]): void {
    const ids = messages.flatMap(({ attachments = [] }) => attachments.filter(isPicture).map(({ file_id }) => file_id));
    const missing = ids.filter((id) => this.files.peek(id, "thumb") === undefined && !this.local.has(id));
    if (missing.length === 0) return;
    this.files.links(missing.slice(0, AHEAD_MAX), "thumb").catch(() => {
      // Each one is asked for when it is shown.
    });
  }

  /** What the address led to could not be shown: it has expired, or the file is gone or broken. */
  failed(fileId: string, size: FileSize): void {
    const key = `${size} ${fileId}`;
    const one = this.shown.get(key);
    if (!one) return;
    const isRepeated = Date.now() - one.failedAt < AGAIN_MS;
    one.failedAt = Date.now();
    this.files.forget(fileId);
    // Not shown meanwhile, so that the same address is tried again as well.
    one.signal[1](isRepeated ? null : undefined);
    if (!isRepeated) this.ask(key, one);
  }

  /** Shows this file from memory from now on: the user has just uploaded it. */
  keep(fileId: string, file: Blob): void {
    this.local.set(fileId, URL.createObjectURL(file));
    for (const [oldest, url] of this.local) {
      if (this.local.size <= LOCAL_MAX) break;
      this.local.delete(oldest);
      URL.revokeObjectURL(url);
    }
  }

  private ask(key: string, one: Shown): void {
    if (one.isAsking) return;
    one.isAsking = true;
    const [size, fileId] = key.split(" ") as [FileSize, string];
    this.files.links([fileId], size).then(
      (found) => {
        one.isAsking = false;
        const url = found.get(fileId)?.url ?? null;
        if (url === null) one.failedAt = Date.now();
        one.signal[1](url);
      },
      () => {
        // The next connection, or the next row that shows it, asks again.
        one.isAsking = false;
      },
    );
  }
}

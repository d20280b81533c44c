/** Files that are attached and not sent yet, per conversation. Uploads begin at once and go on while another one is shown. */

import { type Attachment, type Conversation, type Files, ImError } from "im-client";
import { type Accessor, batch, createSignal, onCleanup, type Setter } from "solid-js";
import { kindOf } from "../lib/files.ts";
import { UnfinishedUploads } from "../lib/unfinished.ts";
import type { FileLinks } from "./file-links.ts";

/** Files of one message. */
export const FILES_MAX = 10;

export type FileState =
  | { readonly kind: "uploading"; readonly sent: number }
  | { readonly kind: "done"; readonly attachment: Attachment }
  /** Code 0: the connection was away for too long. */
  | { readonly kind: "failed"; readonly code: number; readonly message: string };

export class TrayFile {
  readonly state: Accessor<FileState>;
  readonly set: Setter<FileState>;
  /** An address in memory, for pictures. */
  readonly preview: string | undefined;
  abort = new AbortController();

  constructor(readonly file: File) {
    [this.state, this.set] = createSignal<FileState>({ kind: "uploading", sent: 0 });
    this.preview = kindOf(file.type) === "picture" ? URL.createObjectURL(file) : undefined;
  }

  close(): void {
    this.abort.abort();
    if (this.preview !== undefined) URL.revokeObjectURL(this.preview);
  }
}

export class Tray {
  readonly files: Accessor<readonly TrayFile[]>;
  /** The message is sent as soon as its files are uploaded. */
  readonly isWaiting: Accessor<boolean>;
  private readonly setFiles: Setter<readonly TrayFile[]>;
  private readonly setWaiting: Setter<boolean>;
  private submit: () => void = () => {};
  private failed: (name: string) => void = () => {};

  constructor(
    readonly conversation: Conversation,
    private readonly links: FileLinks,
    private readonly unfinished: UnfinishedUploads,
  ) {
    [this.files, this.setFiles] = createSignal<readonly TrayFile[]>([]);
    [this.isWaiting, this.setWaiting] = createSignal(false);
  }

  /** Attaches files and uploads them. Returns false if there were too many, and only the first ones are taken. */
  add(files: readonly File[]): boolean {
    const room = FILES_MAX - this.files().length;
    const added = files.slice(0, room).map((file) => new TrayFile(file));
    this.setFiles([...this.files(), ...added]);
    for (const one of added) void this.upload(one);
    return files.length <= room;
  }

  /** Takes a file away; its upload is canceled. */
  remove(one: TrayFile): void {
    this.unfinished.remove(this.conversation.id, one.file);
    one.close();
    this.setFiles(this.files().filter((other) => other !== one));
    this.look();
  }

  retry(one: TrayFile): void {
    one.set({ kind: "uploading", sent: 0 });
    void this.upload(one);
  }

  /** The attachments, if all files are uploaded. */
  attachments(): Attachment[] | undefined {
    const states = this.files().map((one) => one.state());
    const done = states.flatMap((state) => (state.kind === "done" ? [state.attachment] : []));
    return done.length === states.length ? done : undefined;
  }

  isBusy(): boolean {
    return this.files().some((one) => one.state().kind === "uploading");
  }

  hasFailed(): boolean {
    return this.files().some((one) => one.state().kind === "failed");
  }

  /** Sends when all files are uploaded, wherever the reader is then. `failed` is told the name of a file that is not. */
  wait(submit: () => void, failed: (name: string) => void): void {
    Object.assign(this, { submit, failed });
    this.setWaiting(true);
  }

  /** Does not send by itself any more. */
  stopWaiting(): void {
    this.setWaiting(false);
  }

  /** They were sent. */
  clear(): void {
    this.stopWaiting();
    for (const one of this.files()) one.close();
    this.setFiles([]);
  }

  private async upload(one: TrayFile): Promise<void> {
    const { conversation, unfinished } = this;
    const { file } = one;
    const { files } = this.links;
    try {
      const attachment = await this.run(files, one);
      // A picture is shown from memory, so that it is there with the message.
      if (kindOf(file.type) === "picture") this.links.keep(attachment.file_id, file);
      unfinished.remove(conversation.id, file);
      one.set({ kind: "done", attachment });
    } catch (error) {
      if (one.abort.signal.aborted) return;
      const { code = 0, message } = error as ImError;
      if (this.isWaiting()) this.failed(file.name);
      batch(() => {
        one.set({ kind: "failed", code, message });
        this.stopWaiting();
      });
    }
    this.look();
  }

  private async run(files: Files, one: TrayFile): Promise<Attachment> {
    const { conversation, unfinished } = this;
    const { file } = one;
    let known = unfinished.find(conversation.id, file);
    const options = {
      signal: one.abort.signal,
      onProgress: ({ fileId, sent }: { fileId: string; sent: number }) => {
        one.set({ kind: "uploading", sent });
        if (fileId === known) return;
        known = fileId;
        unfinished.add(conversation.id, file, fileId);
      },
    };
    if (known !== undefined) {
      try {
        return await files.resume(known, file, options);
      } catch (error) {
        // It has expired, or is too small for parts: it begins again.
        if (!(error instanceof ImError) || ![400, 403, 404, 409].includes(error.code)) throw error;
        unfinished.remove(conversation.id, file);
        known = undefined;
      }
    }
    return files.upload(conversation.id, file, options);
  }

  private look(): void {
    if (this.isWaiting() && this.attachments()) this.submit();
  }
}

/** The trays of all conversations. */
export class Trays {
  private readonly trays = new Map<string, Tray>();
  private readonly unfinished: UnfinishedUploads;

  constructor(
    userId: string,
    private readonly links: FileLinks,
  ) {
    this.unfinished = new UnfinishedUploads(userId);
    // A file that the page has cannot be read again after a reload.
    const leaving = (event: BeforeUnloadEvent): void => {
      if ([...this.trays.values()].some((tray) => tray.isBusy())) event.preventDefault();
    };
    window.addEventListener("beforeunload", leaving);
    onCleanup(() => {
      window.removeEventListener("beforeunload", leaving);
      for (const tray of this.trays.values()) tray.clear();
    });
  }

  of(conversation: Conversation): Tray {
    let found = this.trays.get(conversation.id);
    if (!found) {
      found = new Tray(conversation, this.links, this.unfinished);
      this.trays.set(conversation.id, found);
    }
    return found;
  }

  forget(): void {
    this.unfinished.forget();
  }
}

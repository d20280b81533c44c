/** Pictures and files. */

import type { ImClient } from "./client.js";
import { segment } from "./http.js";
import { type FileLink, type FileSize, Links } from "./links.js";
import { type Attachment, type Conversation, type Draft, ImError, MsgType, type Sent } from "./types.js";
import { Slots, Upload, type UploadProgress } from "./uploads.js";

/** What a message may have. */
const ATTACHMENTS_MAX = 10;
/** What browsers show. */
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"];

/** Options of an upload. */
export interface UploadOptions {
  /** Default: the name of a `File`, otherwise `file`. */
  readonly name?: string;
  /** Default: the type of the file. */
  readonly contentType?: string;
  readonly onProgress?: (progress: UploadProgress) => void;
  /** Cancels the upload, on the server as well; it rejects with the reason of the signal. */
  readonly signal?: AbortSignal;
}

/** Options of a message with files. */
export interface SendFilesOptions extends Pick<Draft, "content" | "meta" | "replyTo" | "mentions" | "msgId"> {
  /** Progress of the file with this position in the list. */
  readonly onProgress?: (index: number, progress: UploadProgress) => void;
  /** Cancels all uploads. After the last one, the message is sent and cannot be canceled. */
  readonly signal?: AbortSignal;
}

/** Whether a file is sent and shown as a picture (type 2); others are files (type 7). */
export const isPicture = ({ content_type: type = "" }: Pick<Attachment, "content_type">): boolean =>
  PICTURES.includes(type);

/** The type of a message with these files. */
export const fileMessageType = (files: readonly Pick<Attachment, "content_type">[]): number =>
  files.every(isPicture) ? MsgType.Image : MsgType.File;

/** Pictures and files: `new Files(client)`, one for a client. On servers with the feature `files`. */
export class Files {
  private readonly _slots = new Slots();
  private readonly _links: Links;
  /** The last message with files of each conversation that is being prepared. */
  private readonly _preparing = new Map<string, Promise<unknown>>();

  /** With `fetcher`, bytes are sent by it instead of `XMLHttpRequest`, and progress comes at the end of each part only. */
  constructor(
    private readonly _client: ImClient,
    private readonly _fetcher?: typeof fetch,
  ) {
    this._links = new Links(_client);
  }

  /**
   * Uploads a file for a message of this conversation; with null, for an avatar. Attempts that fail are repeated for up
   * to ten minutes without progress, and at once when the connection is back; large files go on where they were cut.
   * Rejects with {@link ImError} if the server refuses the file, such as 413 for one that is too large.
   */
  upload(conversationId: string | null, file: Blob, options: UploadOptions = {}): Promise<Attachment> {
    const { name = (file as File).name ?? "file", contentType = file.type } = options;
    const request = {
      conversation_id: conversationId ?? undefined,
      name,
      size: file.size,
      content_type: contentType || "application/octet-stream",
      parts: true,
    };
    return this._run(file, options, (upload) => upload._begin(request));
  }

  /**
   * Goes on with an upload that began before a reload: `fileId` is that of its progress, and `file` must be the same one.
   * Rejects with 404 if it has expired: upload it again.
   */
  resume(fileId: string, file: Blob, options: Pick<UploadOptions, "onProgress" | "signal"> = {}): Promise<Attachment> {
    return this._run(file, options, (upload) => upload._resume(fileId));
  }

  /**
   * Uploads up to ten files and sends them as one message: of type 2 if all are pictures, otherwise of type 7; `content` is
   * its caption. Resolves when the message is in the outbox, after which it is kept, sent and repeated as a text is. Texts
   * that are sent meanwhile come before it; messages with files keep the order of the calls.
   */
  async sendFiles(
    conversation: Conversation,
    files: readonly Blob[],
    { onProgress, signal, ...draft }: SendFilesOptions = {},
  ): Promise<Sent> {
    if (files.length === 0 || files.length > ATTACHMENTS_MAX) {
      throw new ImError(400, `a message has 1 to ${ATTACHMENTS_MAX} files`);
    }
    const { id } = conversation;
    const before = this._preparing.get(id);
    // One that fails cancels the others.
    const all = new AbortController();
    const any = signal ? AbortSignal.any([signal, all.signal]) : all.signal;
    const sent = Promise.all(
      files.map((file, n) => this.upload(id, file, { signal: any, onProgress: (now) => onProgress?.(n, now) })),
    ).then(async (attachments) => {
      await before;
      return conversation.send({ ...draft, msgType: fileMessageType(attachments), attachments });
    });
    const turn = Promise.allSettled([before, sent]);
    this._preparing.set(id, turn);
    try {
      return await sent;
    } catch (error) {
      all.abort(error);
      throw error;
    } finally {
      if (this._preparing.get(id) === turn) this._preparing.delete(id);
    }
  }

  /**
   * Addresses of files, for an hour and without a header, as `<img src>` needs them. Files that you may not see are left out.
   * Calls of a moment become one, and addresses are kept until shortly before they expire.
   */
  links(fileIds: readonly string[], size: FileSize = "original"): Promise<Map<string, FileLink>> {
    return this._links._get(fileIds, size);
  }

  /** An address that is known and has not expired, without a call. */
  peek(fileId: string, size: FileSize = "original"): string | undefined {
    return this._links._peek(fileId, size)?.url;
  }

  /** Forgets the addresses of a file: one of them did not work. */
  forget(fileId: string): void {
    this._links._forget(fileId);
  }

  /** A copy of a file that you may see, for a message of another conversation. */
  copy(fileId: string, conversationId: string): Promise<Attachment> {
    return this._client.call("POST", `/api/files/${segment(fileId)}/copy`, { conversation_id: conversationId });
  }

  /** Uploads a picture and shows it as your own avatar, or as that of a group; null removes the avatar. Returns its id. */
  async setAvatar(file: Blob | null, groupId?: string, options?: UploadOptions): Promise<string | null> {
    const avatar = file && (await this.upload(null, file, options)).file_id;
    if (groupId === undefined) await this._client.profiles.update({ avatar });
    else await this._client.groups.update(groupId, { avatar });
    return avatar;
  }

  private async _run(
    file: Blob,
    { onProgress, signal = new AbortController().signal }: UploadOptions,
    work: (upload: Upload) => Promise<Attachment>,
  ): Promise<Attachment> {
    signal.throwIfAborted();
    const upload = new Upload(this._client, this._slots, file, signal, (now) => onProgress?.(now), this._fetcher);
    let stop = (): void => undefined;
    const stopped = new Promise<never>((_, reject) => {
      stop = () => {
        upload._drop();
        reject(signal.reason);
      };
    });
    signal.addEventListener("abort", stop);
    try {
      return await Promise.race([work(upload), stopped]);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }
}

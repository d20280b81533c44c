/** Pictures and files. */

import type { ImClient } from "./client.js";
import type { Attachment } from "./types.js";

type Caller = Pick<ImClient, "call">;

/** Pictures and files: `new Files(client)`. On servers with the feature `files`. */
export class Files {
  constructor(
    private readonly client: Caller,
    private readonly fetcher: typeof fetch = (input, init) => fetch(input, init),
  ) {}

  /** Uploads bytes and returns the attachment for a message of this conversation; without one, for an avatar. */
  async upload(data: Blob, name: string, conversationId?: string): Promise<Attachment> {
    const made = await this.client.call<{
      file_id: string;
      method: string;
      url: string;
      headers?: Record<string, string>;
    }>("POST", "/api/uploads", {
      conversation_id: conversationId,
      name,
      size: data.size,
      content_type: data.type || "application/octet-stream",
    });
    const put = await this.fetcher(made.url, { method: made.method, headers: made.headers ?? {}, body: data });
    if (!put.ok) throw new Error(`the upload of ${name} was refused with status ${put.status}`);
    return this.client.call("POST", `/api/uploads/${encodeURIComponent(made.file_id)}/complete`);
  }

  /** Addresses of up to 100 files, valid for an hour; files that you may not see are left out. */
  async links(
    fileIds: readonly string[],
    size?: "thumb" | "original",
  ): Promise<{ file_id: string; url: string; expires_at: number }[]> {
    const body = size ? { file_ids: fileIds, size } : { file_ids: fileIds };
    return (
      await this.client.call<{ links: { file_id: string; url: string; expires_at: number }[] }>(
        "POST",
        "/api/files/links",
        body,
      )
    ).links;
  }
}

/** Pictures and files. */

import type { ImClient } from "./client.js";
import { globalFetch, segment } from "./http.js";
import type { Attachment } from "./types.js";

type Caller = Pick<ImClient, "call">;

/** Pictures and files: `new Files(client)`. On servers with the feature `files`. */
export class Files {
  constructor(
    private readonly _client: Caller,
    private readonly _fetcher = globalFetch,
  ) {}

  /** Uploads bytes and returns the attachment for a message of this conversation; without one, for an avatar. */
  async upload(data: Blob, name: string, conversationId?: string): Promise<Attachment> {
    const made = await this._client.call<{
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
    const put = await this._fetcher(made.url, { method: made.method, headers: made.headers ?? {}, body: data });
    if (!put.ok) throw new Error(`the upload of ${name} was refused with status ${put.status}`);
    return this._client.call("POST", `/api/uploads/${segment(made.file_id)}/complete`);
  }

  /** Addresses of up to 100 files, valid for an hour; files that you may not see are left out. */
  async links(
    fileIds: readonly string[],
    size?: "thumb" | "original",
  ): Promise<{ file_id: string; url: string; expires_at: number }[]> {
    type Answer = { links: { file_id: string; url: string; expires_at: number }[] };
    return (await this._client.call<Answer>("POST", "/api/files/links", { file_ids: fileIds, size })).links;
  }
}

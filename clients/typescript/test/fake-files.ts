/** Uploads and links in memory, over real HTTP, as the protocol has them. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Attachment } from "../src/index.js";

export interface Call {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: Buffer;
  // biome-ignore lint/suspicious/noExplicitAny: what the client sent
  json(): any;
}

type Answer = { status?: number; body?: unknown };

interface Stored {
  request: { name: string; size: number; content_type: string; conversation_id?: string; parts?: boolean };
  parts: Map<number, Buffer>;
  completed: boolean;
}

export class FakeFiles {
  readonly uploads = new Map<string, Stored>();
  readonly calls: Call[] = [];
  /** Files above this size are sent in parts of it. */
  partSize = 1_000;
  /** Requests with bytes that are being answered, and the most of them at a time. */
  running = 0;
  most = 0;
  /** How long the server takes for bytes. */
  delayMs = 0;
  linkMs = 3_600_000;
  hidden = new Set<string>();
  /** Answers instead of the server; `cut` ends the connection. */
  intercept: ((call: Call) => Answer | "cut" | undefined) | undefined;
  private readonly server: Server;
  private made = 0;

  constructor() {
    this.server = createServer((request, response) => void this.serve(request, response));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Calls of this method whose path begins so. */
  of(method: string, path: string): Call[] {
    return this.calls.filter((call) => call.method === method && call.path.startsWith(path));
  }

  /** What was completed under this id. */
  content(fileId: string): string {
    const parts = [...this.uploads.get(fileId)!.parts].sort(([a], [b]) => a - b);
    return Buffer.concat(parts.map(([, bytes]) => bytes)).toString();
  }

  attachment(fileId: string): Attachment {
    const { name, size, content_type } = this.uploads.get(fileId)!.request;
    const isImage = content_type.startsWith("image/");
    return { file_id: fileId, name, size, content_type, ...(isImage && { width: 40, height: 30 }) };
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const isBytes = request.method === "PUT";
    if (isBytes) this.most = Math.max(this.most, ++this.running);
    try {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      if (isBytes && this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
      const body = Buffer.concat(chunks);
      const { pathname } = new URL(request.url ?? "/", "http://server");
      const call: Call = {
        method: request.method ?? "",
        path: pathname,
        headers: request.headers,
        body,
        json: () => JSON.parse(body.toString() || "{}"),
      };
      this.calls.push(call);
      const answer = this.intercept?.(call) ?? this.answer(call);
      if (answer === "cut") return void request.socket.destroy();
      response.writeHead(answer.status ?? 200, { "Content-Type": "application/json" });
      response.end(JSON.stringify(answer.body ?? {}));
    } catch {
      // The client canceled the request.
    } finally {
      if (isBytes) this.running--;
    }
  }

  private answer(call: Call): Answer {
    const [, , kind, id = "", action] = call.path.split("/");
    if (call.path === "/api/files/links") return this.links(call.json());
    if (kind === "files" && action === "copy") return { body: { ...this.attachment(id), file_id: `${id}-copy` } };
    if (call.path.startsWith("/bytes/")) return this.store(call);
    if (kind !== "uploads") return { body: { user_id: "ann", nickname: "Ann" } };
    if (id === "") return this.begin(call.json());
    const upload = this.uploads.get(id);
    if (!upload) return refusal(404, "there is no such upload");
    if (call.method === "DELETE") return { body: this.uploads.delete(id) && {} };
    if (call.method === "GET") return { body: this.state(id, upload) };
    if (action === "complete") return this.complete(id, upload);
    const numbers: number[] = call.json().numbers;
    return { body: { parts: numbers.map((number) => ({ number, method: "PUT", url: `/bytes/${id}/${number}` })) } };
  }

  private begin(request: Stored["request"]): Answer {
    const id = `file-${++this.made}`;
    this.uploads.set(id, { request, parts: new Map(), completed: false });
    const expires_at = Date.now() + 3_600_000;
    if (request.parts && request.size > this.partSize) return { body: this.state(id, this.uploads.get(id)!) };
    const headers = { "Content-Type": request.content_type, "X-Signed": "yes" };
    return { body: { file_id: id, method: "PUT", url: `/bytes/${id}`, headers, expires_at } };
  }

  private state(id: string, { request, parts, completed }: Stored): object {
    const { name, size, content_type } = request;
    const isInParts = request.parts && size > this.partSize;
    return {
      file_id: id,
      ...{ name, size, content_type, completed },
      ...(isInParts && { part_size: this.partSize, part_count: Math.ceil(size / this.partSize) }),
      ...(isInParts && { received: [...parts.keys()] }),
      expires_at: Date.now() + 3_600_000,
    };
  }

  private store({ path, body }: Call): Answer {
    const [, , id = "", part = "1"] = path.split("/");
    const upload = this.uploads.get(id);
    if (!upload) return refusal(403, "the address is not valid");
    upload.parts.set(Number(part), body);
    return {};
  }

  private complete(id: string, upload: Stored): Answer {
    const sum = [...upload.parts.values()].reduce((bytes, part) => bytes + part.length, 0);
    if (upload.parts.size === 0) return refusal(409, "the bytes have not arrived");
    if (sum < upload.request.size) return refusal(400, "parts are missing");
    upload.completed = true;
    return { body: this.attachment(id) };
  }

  private links({ file_ids, size }: { file_ids: string[]; size?: string }): Answer {
    const expires_at = Date.now() + this.linkMs;
    const seen = file_ids.filter((id) => !this.hidden.has(id));
    return { body: { links: seen.map((file_id) => ({ file_id, url: `/bytes/${file_id}?size=${size}`, expires_at })) } };
  }
}

const refusal = (status: number, message: string): Answer => ({ status, body: { code: status, message } });

/** What the SDK uses of the browser's XMLHttpRequest: it tells progress in quarters. */
export class FakeXhr {
  status = 0;
  responseText = "";
  readonly upload: { onprogress?: (event: { loaded: number }) => void } = {};
  onload?: () => void;
  onerror?: () => void;
  private readonly headers: Record<string, string> = {};
  private readonly aborted = new AbortController();
  private to = { method: "", url: "" };

  open(method: string, url: string): void {
    this.to = { method, url };
  }

  setRequestHeader(name: string, value: string): void {
    this.headers[name] = value;
  }

  abort(): void {
    this.aborted.abort();
  }

  send(body: Blob): void {
    const { method, url } = this.to;
    for (const quarter of [1, 2, 3]) this.upload.onprogress?.({ loaded: (body.size * quarter) / 4 });
    fetch(url, { method, headers: this.headers, body, signal: this.aborted.signal }).then(
      async (response) => {
        this.status = response.status;
        this.responseText = await response.text();
        this.upload.onprogress?.({ loaded: body.size });
        this.onload?.();
      },
      () => this.onerror?.(),
    );
  }
}

/**
 * Uploads that have not ended, over a reload. The page cannot keep the files themselves: if the reader chooses the same
 * file again, its upload goes on.
 */

import { local } from "./storage.ts";

interface Unfinished {
  readonly conversation: string;
  readonly name: string;
  readonly size: number;
  readonly modified: number;
  readonly fileId: string;
}

/** The oldest go first. */
const KEPT_MAX = 20;

export class UnfinishedUploads {
  private readonly key: string;

  constructor(userId: string) {
    this.key = `im.uploads.${userId}`;
  }

  /** The id of an earlier upload of this file. */
  find(conversation: string, file: File): string | undefined {
    return this.read().find((one) => isOf(one, conversation, file))?.fileId;
  }

  add(conversation: string, { name, size, lastModified: modified }: File, fileId: string): void {
    const others = this.read().filter((one) => one.fileId !== fileId);
    this.write([...others, { conversation, name, size, modified, fileId }].slice(-KEPT_MAX));
  }

  remove(conversation: string, file: File): void {
    this.write(this.read().filter((one) => !isOf(one, conversation, file)));
  }

  forget(): void {
    this.write([]);
  }

  private read(): Unfinished[] {
    try {
      const found: unknown = JSON.parse(local.get(this.key) ?? "[]");
      return Array.isArray(found) ? (found as Unfinished[]) : [];
    } catch {
      return [];
    }
  }

  private write(all: Unfinished[]): void {
    local.set(this.key, all.length > 0 ? JSON.stringify(all) : null);
  }
}

function isOf(one: Unfinished, conversation: string, file: File): boolean {
  const isSameFile = one.name === file.name && one.size === file.size && one.modified === file.lastModified;
  return isSameFile && one.conversation === conversation;
}

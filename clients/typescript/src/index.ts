/** Client of a self-hosted instant-messaging server. */

export { login, register, type Token } from "./accounts.js";
export type { Blocks, Groups, Invitations } from "./calls.js";
export { ImClient } from "./client.js";
export { Excerpt } from "./excerpt.js";
export { Files, fileMessageType, isPicture, type SendFilesOptions, type UploadOptions } from "./files.js";
export { IndexedDbStore } from "./indexeddb.js";
export type { FileLink, FileSize } from "./links.js";
export type { Profiles } from "./profiles.js";
export {
  type MessageNotification,
  Push,
  type PushConfig,
  type PushSubscriptionEntry,
  type ReadNotification,
  type WebPushSubscription,
} from "./push.js";
export { MemoryStore } from "./store.js";
export * from "./types.js";
export type { UploadProgress } from "./uploads.js";

/** Notifications to a user who is not connected: subscriptions of devices, and what a push service delivers. */

import type { ImClient } from "./client.js";
import { segment } from "./http.js";

const PATH = "/api/push/subscriptions";

/** What the server offers. */
export interface PushConfig {
  readonly enabled: boolean;
  /** Kinds of subscriptions that it takes, such as `webpush`. */
  readonly services: readonly string[];
  /** The `applicationServerKey` of `pushManager.subscribe`, in base64url: an uncompressed point of P-256. */
  readonly vapid_public_key?: string;
}

/** What `JSON.stringify` makes of a browser's `PushSubscription`. */
export interface WebPushSubscription {
  readonly endpoint?: string;
  readonly expirationTime?: number | null;
  readonly keys?: Readonly<Record<string, string>>;
}

/** A subscription, as the server lists it. Times are in milliseconds since 1970. */
export interface PushSubscriptionEntry {
  readonly id: string;
  readonly kind: string;
  readonly device_id?: string;
  readonly endpoint_host?: string;
  readonly created_at: number;
  /** When a push service took a notification for it last. */
  readonly accepted_at?: number;
}

/** The content of a Web Push that shows a message. Drop it if its `seq` is not above the last one of the conversation. */
export interface MessageNotification {
  readonly type: "message";
  readonly conversation_id: string;
  /** Higher with each notification of the conversation. */
  readonly seq: number;
  readonly title: string;
  /** Absent where the server does not put contents into notifications. */
  readonly body?: string;
  /** Messages that this notification is about. */
  readonly count: number;
  readonly sender_id: string;
  /** A message mentions the user. */
  readonly mention?: boolean;
  /** The number for the icon of the app. */
  readonly badge?: number;
  /** It changes what is shown, and makes no sound. */
  readonly quiet?: boolean;
}

/** The content of a Web Push that withdraws: the user has read the conversation up to `seq`. */
export interface ReadNotification {
  readonly type: "read";
  readonly conversation_id: string;
  readonly seq: number;
  readonly badge?: number;
}

/** Push subscriptions of the user: `new Push(client)`. On servers that send notifications; others answer with 404. */
export class Push {
  constructor(private readonly _client: Pick<ImClient, "call">) {}

  /** What the server offers. */
  config(): Promise<PushConfig> {
    return this._client.call("GET", "/api/push/config");
  }

  /** Adds the subscription of this browser. The same one again gives the same id. */
  subscribe(subscription: WebPushSubscription): Promise<{ id: string }> {
    return this._client.call("POST", PATH, { ...subscription, kind: "webpush" });
  }

  /** All subscriptions of the user. */
  async list(): Promise<PushSubscriptionEntry[]> {
    const { subscriptions } = await this._client.call<{ subscriptions: PushSubscriptionEntry[] }>("GET", PATH);
    return subscriptions;
  }

  /** Removes a subscription. */
  async unsubscribe(id: string): Promise<void> {
    await this._client.call("DELETE", `${PATH}/${segment(id)}`);
  }
}

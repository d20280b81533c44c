/**
 * What the tests against real gateways share: the addresses, and a control channel to the program that started the
 * system. A line `@kill 0` on standard output asks it to kill gateway 0; its answer is a line on standard input.
 */

import { createHmac } from "node:crypto";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import WebSocket from "ws";
import { ImClient, type ImClientOptions, MemoryStore, type Message } from "../../src/index.js";

const list = (name: string): string[] => (process.env[name] ?? "").split(",").filter(Boolean);

/** Addresses of the gateways, `ws://host:port/ws`. */
export const GATEWAYS = list("IM_GATEWAYS");
const SECRET = process.env["IM_SECRET"] ?? "";

const input = createInterface({ input: process.stdin });
const answers: ((line: string) => void)[] = [];
input.on("line", (line) => answers.shift()?.(line));
// The channel does not keep the tests from ending.
(process.stdin as unknown as { unref?: () => void }).unref?.();

/** Asks for something to be done to the system: `kill N`, `start N`, `drain N`. */
export async function control(command: string): Promise<void> {
  process.stdout.write(`@${command}\n`);
  const answer = await new Promise<string>((resolve) => answers.push(resolve));
  if (answer !== "done") throw new Error(`${command}: ${answer}`);
}

/** All sockets that are open, to be cut. */
export const sockets = new Set<WebSocket>();

export class CountedSocket extends WebSocket {
  static opened = 0;

  constructor(url: string) {
    super(url);
    CountedSocket.opened++;
    sockets.add(this);
    this.on("close", () => sockets.delete(this));
  }
}

/** Ends the TCP connection of some sockets without a word. */
export function cut(share: number): void {
  for (const socket of sockets) if (Math.random() < share) socket.terminate();
}

/** A client of this user, with all gateways in an order of its own. */
export function client(userId: string, options: Partial<ImClientOptions> = {}): ImClient {
  const url = [...GATEWAYS].sort(() => Math.random() - 0.5);
  const who = options.token ? {} : { userId };
  return new ImClient({ url, webSocket: CountedSocket, store: new MemoryStore(), ...who, ...options });
}

/** Clients of these users, online and in step; undefined, and the test is skipped, if the server lacks a feature. */
export async function online(
  context: TestContext,
  features: string[],
  ...names: string[]
): Promise<ImClient[] | undefined> {
  const clients = names.map((name) => client(name));
  for (const one of clients) await one.start();
  for (const one of clients) await until("online", () => one.connection.synced && one.features.size > 0);
  const missing = features.find((feature) => !clients[0]!.features.has(feature));
  if (missing === undefined) return clients;
  for (const one of clients) await one.stop();
  context.skip(`the server has no ${missing}`);
  return undefined;
}

/** A token as an app's own server would make it. */
export function token(userId: string, seconds: number): string {
  const now = Math.floor(Date.now() / 1000);
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub: userId, iat: now, exp: now + seconds })}`;
  return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
}

/** Waits until `done`. */
export async function until(what: string, done: () => boolean | Promise<boolean>, ms = 30_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await done())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await pause(20);
  }
}

/** All messages of a conversation, as the server has them. */
export async function history(
  reader: ImClient,
  id: string,
): Promise<{ msg_id: string; seq: number; content: string }[]> {
  type Page = {
    payload: { msg_id: string; seq: number; content: string; msg_type: number }[];
    next_cursor_seq: number;
    has_more: boolean;
  };
  const all: Page["payload"] = [];
  for (let cursor_seq = 0, more = true; more; ) {
    const path = `/api/conversations/${encodeURIComponent(id)}/messages`;
    const page = await reader.call<Page>("GET", path, undefined, { cursor_seq, limit: 500 });
    all.push(...page.payload);
    cursor_seq = page.next_cursor_seq;
    more = page.has_more;
  }
  return all.filter((message) => message.msg_type < 3 || message.msg_type > 6);
}

/** What two lists are compared by. */
export const brief = (messages: readonly (Message | { msg_id: string; seq: number; content: string })[]): string[] =>
  messages.map((one) => `${one.seq} ${"msgId" in one ? one.msgId : one.msg_id} ${one.content}`);

/** Fresh ids, so that tests do not meet. */
let n = 0;
export const fresh = (name: string): string => `${name}-${process.pid}-${n++}`;

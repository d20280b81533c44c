// Measures the page under a steady stream of messages into the group that it shows: frames, long tasks, memory.
//
//   node test/sustained.mjs http://127.0.0.1:8081 [MESSAGES_PER_SECOND] [SECONDS]
//
// The messages come from demo users in a second window, 20 a second each, which is less than a gateway takes of one user.

import assert from "node:assert/strict";
import { choose, enter, launch, openWindow } from "./browser.mjs";

const [base = "http://127.0.0.1:8081", rate = "1000", length = "20"] = process.argv.slice(2);
const [perSecond, seconds] = [Number(rate), Number(length)];
const PER_USER = 20;
const run = Math.random().toString(36).slice(2, 8);
const senders = Array.from({ length: Math.ceil(perSecond / PER_USER) }, (_, n) => `sender-${n}-${run}`);

/** Sends at a steady rate; runs in a window of its own. Returns how many messages were accepted, and in what time. */
async function send({ senders, conversation_id, perSecond, seconds, run }) {
  const connect = (name) =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://${location.host}/ws?user_id=${name}`);
      socket.onopen = () => resolve(socket);
      socket.onerror = reject;
    });
  const sockets = await Promise.all(senders.map(connect));
  let [accepted, refused, lastSeq] = [0, 0, 0];
  for (const socket of sockets) {
    socket.onmessage = ({ data }) => {
      if (!data.startsWith('{"cmd":2,')) return;
      const { code, seq = 0 } = JSON.parse(data);
      if (code === 0) accepted++;
      else refused++;
      lastSeq = Math.max(lastSeq, seq);
    };
  }
  const [begin, total] = [performance.now(), perSecond * seconds];
  let sent = 0;
  await new Promise((resolve) => {
    const timer = setInterval(() => {
      const due = Math.min(total, ((performance.now() - begin) / 1000) * perSecond);
      for (; sent < due; sent++) {
        const payload = { content: `message ${sent} of a steady stream` };
        const frame = { cmd: 2, msg_id: `${run}-${sent}`, conversation_id, payload };
        sockets[sent % sockets.length].send(JSON.stringify(frame));
      }
      if (accepted + refused >= total || performance.now() - begin > (seconds + 30) * 1000) {
        clearInterval(timer);
        resolve();
      }
    }, 10);
  });
  return { accepted, refused, lastSeq, seconds: (performance.now() - begin) / 1000 };
}

/** Begins to observe frames and long tasks. */
function observe() {
  const seen = { frames: 0, longest: 0, over50: 0, longestTask: 0, begin: performance.now() };
  globalThis.seen = seen;
  let last = performance.now();
  const frame = (now) => {
    seen.frames++;
    seen.longest = Math.max(seen.longest, now - last);
    if (now - last > 50) seen.over50++;
    last = now;
    if (!seen.isOver) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) seen.longestTask = Math.max(seen.longestTask, duration);
  }).observe({ type: "longtask" });
}

const browser = await launch();
const [reading, sending] = [await openWindow(browser), await openWindow(browser)];
await sending.page.goto(base);
const { conversation_id } = await sending.page.evaluate(
  async ({ senders, reader, run }) => {
    const response = await fetch(`/api/groups?user_id=${senders[0]}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: `Stream ${run}`, members: [reader, ...senders.slice(1)] }),
    });
    return response.json();
  },
  { senders, reader: `reader-${run}`, run },
);
assert.ok(conversation_id, "the group is made");
await enter(reading.page, base, `reader-${run}`);
await choose(reading.page, `Stream ${run}`);
const inspector = await reading.context.newCDPSession(reading.page);
const heap = async () => {
  await inspector.send("HeapProfiler.collectGarbage");
  return (await inspector.send("Runtime.getHeapUsage")).usedSize / 2 ** 20;
};
const before = await heap();
await reading.page.evaluate(observe);
const sent = await sending.page.evaluate(send, { senders, conversation_id, perSecond, seconds, run });
const begin = Date.now();
await reading.page.locator(`article.message[data-seq="${sent.lastSeq}"]`).waitFor({ timeout: 60_000 });
const behind = Date.now() - begin;
const seen = await reading.page.evaluate(() => {
  const { seen } = globalThis;
  seen.isOver = true;
  return { ...seen, seconds: (performance.now() - seen.begin) / 1000 };
});
const rows = await reading.page.locator("article.message").count();
console.log(
  [
    `${sent.accepted} messages in ${sent.seconds.toFixed(1)} s, ${Math.round(sent.accepted / sent.seconds)} a second; ${sent.refused} refused`,
    `the last one was shown ${behind} ms after its acceptance`,
    `${(seen.frames / seen.seconds).toFixed(1)} frames a second, the longest ${Math.round(seen.longest)} ms, ${seen.over50} over 50 ms`,
    `longest task ${Math.round(seen.longestTask)} ms; ${rows} rows in the document`,
    `heap ${before.toFixed(1)} MiB before, ${(await heap()).toFixed(1)} MiB after`,
  ].join("\n"),
);
await browser.close();
assert.deepEqual(reading.problems, []);

// Makes the pictures of the README: a system that runs is filled with a few conversations, and the page is photographed.
//
//   make run                                   # in another terminal
//   cd clients/web && npm ci && npm run screenshots -- http://127.0.0.1:8081

import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { choose, enter, launch, openWindow } from "./browser.mjs";

const base = process.argv[2] ?? "http://127.0.0.1:8081";
const folder = process.argv[3] ?? fileURLToPath(new URL("../../../docs/images", import.meta.url));
mkdirSync(folder, { recursive: true });
const me = "mia";
const names = {
  mia: "Mia Keller",
  jonas: "Jonas Berg",
  amelie: "Amélie Laurent",
  omar: "Omar Haddad",
  lina: "Li Na",
  sven: "Sven Lind",
  noor: "Noor Jansen",
};

/** `of` is the message that an entry is about, counted from the first one. */
const trip = [
  ["jonas", "Morning! Is everyone still in for the lake on Saturday? 🏕️"],
  ["amelie", "Yes! I can take three people in my car."],
  ["omar", "Count me in, Saturday is free 👍"],
  ["mia", "Great. I'll bring the tent and the stove."],
  ["mia", "Who has a map that works offline?"],
  ["jonas", "I do. Here is the route: https://www.openstreetmap.org/directions?from=Freiburg", { reply: 4 }],
  ["lina", "I'll bring fruit and coffee ☕"],
  ["lina", "@mia, the forecast says 24 degrees and no rain.", { mentions: ["mia"] }],
  ["amelie", "Perfect. Meet at 8:30 at the station?"],
  ["mia", "8:30 it is. See you there, @omar!", { reply: 8, mentions: ["omar"] }],
  ["omar", "🎉"],
  ["amelie", "", { of: 6, reaction: "❤️" }],
  ["jonas", "", { of: 6, reaction: "❤️" }],
  ["omar", "", { of: 9, reaction: "👍" }],
  ["mia", "", { of: 7, reaction: "☀️" }],
  ["amelie", "Perfect. Meet at 8:30 at the station, platform 2?", { of: 8, edit: true }],
  ["mia", "", { of: 8, pin: true }],
];
const others = [
  ["lina", "The coffee beans arrived, I'll bring you a bag ☕"],
  ["amelie", "Merci! See you on Saturday 😊"],
  ["omar", "Thanks a lot!"],
  ["sven", "The backup ran through, 0 errors."],
  ["noor", "Can you look at the draft when you have a minute?"],
];
const groups = [
  ["Reading circle", [["amelie", "@mia, chapter 7 until Thursday then.", { mentions: ["mia"] }]]],
  ["Ops on call", [["sven", "Gateway 2 restarted, everybody reconnected within 3 s."]]],
  ["Neighbors", [["lina", "Does anyone have a bicycle pump to lend?"]]],
  ["Lake trip 🏕️", trip],
];

/** Calls and connections of all users, made from inside of a page of the gateway. */
async function fill(page) {
  await page.evaluate(
    async ({ me, names, groups, others }) => {
      const { features = [] } = await fetch("/api").then((response) => (response.ok ? response.json() : {}));
      for (const [user, nickname] of features.includes("profiles") ? Object.entries(names) : []) {
        await fetch(`/api/users/me?user_id=${user}`, {
          method: "PATCH",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ nickname }),
        });
      }
      const sockets = new Map();
      const connect = (name) =>
        sockets.get(name) ??
        sockets
          .set(
            name,
            new Promise((resolve, reject) => {
              const scheme = location.protocol === "https:" ? "wss" : "ws";
              const socket = new WebSocket(`${scheme}://${location.host}/ws?user_id=${encodeURIComponent(name)}`);
              socket.onopen = () => resolve(socket);
              socket.onerror = reject;
            }),
          )
          .get(name);
      const send = async (name, target, content, more = {}) => {
        const socket = await connect(name);
        const msg_id = crypto.randomUUID();
        const answered = new Promise((resolve, reject) => {
          const listen = ({ data }) => {
            const frame = JSON.parse(data);
            if (frame.msg_id !== msg_id || frame.cmd !== 2) return;
            socket.removeEventListener("message", listen);
            if (frame.code === 0) resolve(frame.seq);
            else reject(new Error(data));
          };
          socket.addEventListener("message", listen);
        });
        socket.send(JSON.stringify({ cmd: 2, msg_id, ...target, payload: { content, ...more, ack: "stored" } }));
        return answered;
      };
      const change = ({ of, reaction, edit, pin, reply, mentions }, seqs) => {
        if (edit) return { msg_type: 4, edit_seq: seqs[of] };
        if (pin) return { msg_type: 6, pin_seq: seqs[of], content: undefined };
        if (reaction) return { msg_type: 5, react_seq: seqs[of], reaction, content: undefined };
        return { mentions, reply_to: reply === undefined ? undefined : seqs[reply] };
      };
      for (const [name, content] of others) await send(name, { to: me }, content);
      for (const [name, messages] of groups) {
        const members = ["jonas", "amelie", "omar", "lina", "sven"];
        const response = await fetch(`/api/groups?user_id=${encodeURIComponent(me)}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ name, members }),
        });
        const { conversation_id } = await response.json();
        const seqs = [];
        for (const [author, content, more = {}] of messages) {
          seqs.push(await send(author, { conversation_id }, content, change(more, seqs)));
        }
      }
      const set = async (to, settings) =>
        fetch(`/api/conversations/-?user_id=${me}&to=${to}`, {
          method: "PATCH",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(settings),
        });
      if (features.includes("settings")) {
        await set("amelie", { pinned: true });
        await set("sven", { muted_until: -1 });
        await set("noor", { marked_unread: true });
        await set("omar", { archived: true });
      }
      // Present until the pictures are made.
      window.sockets = sockets;
    },
    { me, names, groups, others },
  );
}

const browser = await launch();
const helper = await openWindow(browser);
await helper.page.goto(base);
await fill(helper.page);
const looks = {
  "web-light": { colorScheme: "light" },
  "web-dark": { colorScheme: "dark" },
  "web-chinese": { colorScheme: "light", locale: "zh-CN", timezoneId: "Asia/Shanghai" },
};
for (const [name, options] of Object.entries(looks)) {
  const { context, page } = await openWindow(browser, { ...options, deviceScaleFactor: 1.25 });
  if (name === "web-chinese") {
    await page.goto(base);
    await page.locator("form input").fill(me);
    await page.locator("form button").click();
    await page.locator(".status-dot.online").waitFor();
  } else {
    await enter(page, base, me);
  }
  await choose(page, "Lake trip");
  await page.locator("article.message", { hasText: "🎉" }).last().waitFor();
  // The first time, the page begins at the unread messages.
  await page.waitForTimeout(500);
  const newest = page.locator(".to-newest");
  if (await newest.isVisible()) await newest.click();
  if (name === "web-dark") await page.locator(".main-head .icon-button").last().click();
  // The pointer stays where it clicked, and would mark a row.
  await page.mouse.move(0, 0);
  await page.waitForTimeout(1_500);
  await page.screenshot({ path: `${folder}/${name}.png` });
  await context.close();
}
const phone = await openWindow(browser, {
  viewport: { width: 390, height: 780 },
  deviceScaleFactor: 1.5,
  hasTouch: true,
  isMobile: true,
});
await enter(phone.page, base, me);
await phone.page.mouse.move(0, 0);
await phone.page.waitForTimeout(1_000);
await phone.page.screenshot({ path: `${folder}/web-phone-list.png` });
await choose(phone.page, "Lake trip");
await phone.page.locator("article.message", { hasText: "🎉" }).last().waitFor();
await phone.page.waitForTimeout(1_000);
await phone.page.screenshot({ path: `${folder}/web-phone.png` });
await browser.close();
console.log(`pictures are in ${folder}`);

/** Texts of notifications. Apart from the others, since the service worker has these only. */

export interface PushTexts {
  /** Title of a notification without one. */
  appName: string;
  newMessages: (n: number) => string;
  mentioned: string;
}

export const pushTexts: Record<"en" | "zh", PushTexts> = {
  en: {
    appName: "Chat",
    newMessages: (n) => (n === 1 ? "1 new message" : `${n.toLocaleString("en")} new messages`),
    mentioned: "You were mentioned",
  },
  zh: {
    appName: "聊天",
    newMessages: (n) => `${n.toLocaleString("zh-CN")} 条新消息`,
    mentioned: "有人提到了你",
  },
};

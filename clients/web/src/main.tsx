import { createEffect, Show } from "solid-js";
import { render } from "solid-js/web";
import { language, locale, t } from "./i18n/index.ts";
import { session } from "./store/session.ts";
import { followTheme } from "./store/theme.ts";
import "./styles/base.css";
import "./styles/sign-in.css";
import "./styles/chat.css";
import "./styles/life.css";
import "./styles/files.css";
import "./styles/gallery.css";
import { ChatPage } from "./ui/chat-page.tsx";
import { SignIn } from "./ui/sign-in.tsx";

function App() {
  followTheme();
  createEffect(() => {
    document.documentElement.lang = language() === "zh" ? "zh-CN" : locale();
    document.title = t().appName;
  });
  return (
    <Show when={session()?.userId} keyed fallback={<SignIn />}>
      {(_userId) => <ChatPage />}
    </Show>
  );
}

const root = document.getElementById("app");
if (root) render(() => <App />, root);

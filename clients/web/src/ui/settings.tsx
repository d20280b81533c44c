import { createSignal, For, type JSX, Match, onMount, Show, Switch } from "solid-js";
import { language, languages, setLanguage, t } from "../i18n/index.ts";
import { notificationState, turnNotifications } from "../store/notify.ts";
import { end, failure, lookAtOffer, reach } from "../store/push.ts";
import { endSession, session } from "../store/session.ts";
import { setTheme, type Theme, theme } from "../store/theme.ts";
import { Avatar } from "./avatar.tsx";
import { AvatarEditor } from "./avatar-editor.tsx";
import { usePage } from "./context.ts";
import { Dialog, Problem, sentence } from "./dialog.tsx";

export function Settings(props: { onClose: () => void; onShortcuts: () => void }): JSX.Element {
  const { chat } = usePage();
  const [problem, setProblem] = createSignal("");
  const themes = (): [Theme, string][] => [
    ["", t().themeSystem],
    ["light", t().themeLight],
    ["dark", t().themeDark],
  ];
  const signOut = async (everywhere: boolean): Promise<void> => {
    try {
      // While the token is valid.
      await end(chat);
      if (everywhere) await chat.client.logout();
      await chat.forget();
    } catch (error) {
      if (everywhere) return void setProblem(sentence(error));
    }
    endSession();
  };
  return (
    <Dialog title={t().settings} onClose={props.onClose}>
      <Profile />
      <section class="field">
        <span class="field-label">{t().appearance}</span>
        <div class="segmented" role="group" aria-label={t().appearance}>
          <For each={themes()}>
            {([id, name]) => (
              <button type="button" aria-pressed={theme() === id} onClick={() => setTheme(id)}>
                {name}
              </button>
            )}
          </For>
        </div>
      </section>
      <section class="field">
        <span class="field-label">{t().language}</span>
        <div class="segmented" role="group" aria-label={t().language}>
          <For each={languages}>
            {(one) => (
              <button
                type="button"
                lang={one.id}
                aria-pressed={language() === one.id}
                onClick={() => setLanguage(one.id)}
              >
                {one.name}
              </button>
            )}
          </For>
        </div>
      </section>
      <Notifications />
      <GroupAdds />
      <Problem text={problem()} />
      <div class="dialog-actions">
        <button type="button" class="button" onClick={() => props.onShortcuts()}>
          {t().shortcuts}
        </button>
        <Show when={session()?.token !== undefined}>
          <button type="button" class="button" onClick={() => void signOut(true)}>
            {t().signOutAll}
          </button>
        </Show>
        <button type="button" class="button" onClick={() => void signOut(false)}>
          {t().signOut}
        </button>
      </div>
    </Dialog>
  );
}

/** Whether the browser shows notifications, and what they reach. */
function Notifications(): JSX.Element {
  const { chat } = usePage();
  const [busy, setBusy] = createSignal(false);
  const isOn = (): boolean => notificationState(chat) === "on";
  const turn = async (): Promise<void> => {
    setBusy(true);
    await turnNotifications(chat, !isOn());
    setBusy(false);
  };
  const hint = (): string => {
    switch (reach()) {
      case "closed":
        return t().notificationsClosed;
      case "server":
        return t().notificationsByPage;
      case "browser":
        return t().notificationsNoPush;
      case "failed":
        return t().notificationsFailed(failure());
      default:
        return "";
    }
  };
  // Safari on iPhone and iPad has notifications for installed pages only.
  const isInstallable = "standalone" in navigator && !navigator.standalone;
  onMount(() => void lookAtOffer(chat));
  return (
    <section class="field">
      <span class="field-label">{t().notifications}</span>
      <Switch>
        <Match when={notificationState(chat) === "missing"}>
          <p class="hint">{isInstallable ? t().notificationsInstall : t().notificationsMissing}</p>
        </Match>
        <Match when={notificationState(chat) === "blocked"}>
          <p class="hint">{t().notificationsBlocked}</p>
        </Match>
        <Match when={true}>
          <button
            type="button"
            class="button"
            aria-pressed={isOn()}
            aria-busy={busy()}
            aria-describedby="notifications-reach"
            onClick={() => !busy() && void turn()}
          >
            {isOn() ? t().notificationsOn : t().notificationsOff}
          </button>
          <p class="hint" id="notifications-reach" role="status">
            {hint()}
          </p>
        </Match>
      </Switch>
    </section>
  );
}

/** The name that others see, on servers with profiles. */
function Profile(): JSX.Element {
  const { chat } = usePage();
  const [name, setName] = createSignal(chat.directory.user(chat.me));
  const [note, setNote] = createSignal("");
  const [problem, setProblem] = createSignal("");
  const save = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setProblem("");
    try {
      await chat.client.profiles.update({ nickname: name().trim() });
      chat.directory.setUser(chat.me, { name: name().trim() });
      setNote("✓");
    } catch (error) {
      setProblem(sentence(error));
    }
  };
  return (
    <Show when={chat.features().has("profiles")}>
      <div class="own-avatar">
        <Avatar id={chat.me} name={chat.directory.user(chat.me)} size="large" />
        <AvatarEditor kind="private" id={chat.me} />
      </div>
      <form onSubmit={(event) => void save(event)}>
        <label class="field">
          <span>{t().displayName}</span>
          <span class="inline-form">
            <input
              class="input"
              maxlength={64}
              value={name()}
              onInput={(event) => {
                setName(event.currentTarget.value);
                setNote("");
              }}
            />
            <button type="submit" class="button" disabled={!name().trim() || note() !== ""}>
              {note() || t().save}
            </button>
          </span>
        </label>
        <Problem text={problem()} />
      </form>
    </Show>
  );
}

type Adds = "everyone" | "contacts" | "nobody";

/** Who may add the user to groups. */
function GroupAdds(): JSX.Element {
  const { chat } = usePage();
  const [adds, setAdds] = createSignal<Adds | undefined>(undefined);
  const [problem, setProblem] = createSignal("");
  const change = async (next: Adds): Promise<void> => {
    const old = adds();
    setAdds(next);
    setProblem("");
    try {
      await chat.client.invitations.setSettings({ group_adds: next });
    } catch (error) {
      setAdds(old);
      setProblem(sentence(error));
    }
  };
  onMount(() => {
    chat.client.invitations.settings().then(
      (settings) => setAdds(settings.group_adds),
      (error: unknown) => setProblem(sentence(error)),
    );
  });
  return (
    <>
      <Show when={adds()}>
        {(now) => (
          <label class="field">
            <span>{t().groupAdds}</span>
            <select class="input" value={now()} onChange={(event) => void change(event.currentTarget.value as Adds)}>
              <option value="everyone">{t().everyone}</option>
              <option value="contacts">{t().contacts}</option>
              <option value="nobody">{t().nobody}</option>
            </select>
          </label>
        )}
      </Show>
      <Problem text={problem()} />
    </>
  );
}

export function Shortcuts(props: { onClose: () => void }): JSX.Element {
  const all = (): [string, string][] => [
    ["Ctrl K", t().shortcutSearch],
    ["Alt ↑ / Alt ↓", t().shortcutNext],
    ["Enter", t().shortcutSend],
    ["Shift Enter", t().shortcutNewline],
    ["↑", t().shortcutEdit],
    ["@", t().shortcutMention],
    ["Esc", t().shortcutClose],
    ["?", t().shortcutHelp],
  ];
  return (
    <Dialog title={t().shortcuts} onClose={props.onClose}>
      <For each={all()}>
        {([keys, text]) => (
          <div class="shortcut">
            <span>{text}</span>
            <kbd>{keys}</kbd>
          </div>
        )}
      </For>
    </Dialog>
  );
}

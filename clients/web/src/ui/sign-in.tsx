import { ImError, login, register } from "im-client";
import { createEffect, createMemo, createSignal, For, type JSX, Match, Show, Switch } from "solid-js";
import { language, languages, setLanguage, t } from "../i18n/index.ts";
import { askServer } from "../store/server.ts";
import { claims, endedElsewhere, isUserId, setSessionTo } from "../store/session.ts";
import { Avatar } from "./avatar.tsx";
import { Problem, sentence } from "./dialog.tsx";

const DEMO_NAMES = ["alice", "bob", "carol", "dave"];
type Way = "demo" | "signIn" | "register" | "token";

/** Everything before a session: demo names, accounts and tokens, as far as the server has them. */
export function SignIn(): JSX.Element {
  const server = askServer();
  const info = createMemo(() => {
    const state = server();
    return "info" in state ? state.info : undefined;
  });
  const hasDemo = (): boolean => info()?.auth?.insecure ?? true;
  const hasAccounts = (): boolean => info()?.auth?.accounts ?? true;
  const [way, setWay] = createSignal<Way>("demo");
  createEffect(() => {
    if (info()) setWay(hasDemo() ? "demo" : hasAccounts() ? "signIn" : "token");
  });
  return (
    <main class="sign-in">
      <header>
        <img src="/web/icon.svg" alt="" width="64" height="64" />
        <h1>{t().welcome}</h1>
        <p class="dim">{t().welcomeText}</p>
      </header>
      <Show when={endedElsewhere()}>
        <p class="hint" role="status">
          {t().signedOutElsewhere}
        </p>
      </Show>
      <div class="card">
        <Show when={info()} fallback={<Waiting state={server()} />}>
          <Switch>
            <Match when={way() === "demo"}>
              <Demo />
            </Match>
            <Match when={way() === "signIn" || way() === "register"}>
              <Account isNew={way() === "register"} />
            </Match>
            <Match when={way() === "token"}>
              <PastedToken />
            </Match>
          </Switch>
          <div class="ways">
            <Show when={way() !== "demo" && hasDemo()}>
              <Other text={t().demoTitle} go={() => setWay("demo")} />
            </Show>
            <Show when={way() !== "signIn" && hasAccounts()}>
              <Other text={way() === "register" ? t().haveAccount : t().signIn} go={() => setWay("signIn")} />
            </Show>
            <Show when={way() !== "register" && hasAccounts()}>
              <Other text={way() === "signIn" ? t().noAccount : t().register} go={() => setWay("register")} />
            </Show>
            <Show when={way() !== "token"}>
              <Other text={t().withToken} go={() => setWay("token")} />
            </Show>
          </div>
        </Show>
      </div>
      <footer>
        <For each={languages}>
          {(one) => (
            <button
              type="button"
              class="link-button"
              lang={one.id}
              aria-pressed={language() === one.id}
              onClick={() => setLanguage(one.id)}
            >
              {one.name}
            </button>
          )}
        </For>
      </footer>
    </main>
  );
}

function Other(props: { text: string; go: () => void }): JSX.Element {
  return (
    <button type="button" class="link-button" onClick={() => props.go()}>
      {props.text}
    </button>
  );
}

function Waiting(props: { state: ReturnType<ReturnType<typeof askServer>> }): JSX.Element {
  const text = (): string => {
    const { state } = props;
    if (!("waiting" in state) || state.waiting === "first") return t().connecting;
    return state.waiting === "refused" ? t().serverRefused(state.status) : t().serverUnreachable;
  };
  return (
    <p role="status" class="inline-form">
      <i class="spinner" />
      {text()}
    </p>
  );
}

function Demo(): JSX.Element {
  const [name, setName] = createSignal("");
  const [problem, setProblem] = createSignal("");
  const begin = (userId: string): void => {
    if (isUserId(userId)) setSessionTo({ userId });
    else setProblem(t().badUserId);
  };
  return (
    <>
      <div>
        <h2>{t().demoTitle}</h2>
        <p class="hint">{t().demoText}</p>
      </div>
      <div class="names">
        <For each={DEMO_NAMES}>
          {(one) => (
            <button type="button" onClick={() => begin(one)}>
              <Avatar id={one} name={one} />
              {one}
            </button>
          )}
        </For>
      </div>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          begin(name().trim());
        }}
      >
        <div class="inline-form">
          <input
            class="input"
            aria-label={t().demoName}
            placeholder={t().demoName}
            autocomplete="username"
            autocapitalize="none"
            spellcheck={false}
            value={name()}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <button type="submit" class="button primary" disabled={!name().trim()}>
            {t().demoStart}
          </button>
        </div>
        <Problem text={problem()} />
      </form>
    </>
  );
}

function Account(props: { isNew: boolean }): JSX.Element {
  const [userId, setUserId] = createSignal("");
  const [password, setPassword] = createSignal("");
  const [nickname, setNickname] = createSignal("");
  const [stay, setStay] = createSignal(true);
  const [busy, setBusy] = createSignal(false);
  const [problem, setProblem] = createSignal("");
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const user_id = userId().trim();
    if (!isUserId(user_id)) return void setProblem(t().badUserId);
    setBusy(true);
    setProblem("");
    try {
      const nick = nickname().trim();
      const account = { user_id, password: password() };
      const { token } = props.isNew
        ? await register(location.origin, nick ? { ...account, nickname: nick } : account)
        : await login(location.origin, account);
      setSessionTo({ userId: user_id, token, account: true, stay: stay() });
    } catch (error) {
      setProblem(sentence(error));
    }
    setBusy(false);
  };
  return (
    <form onSubmit={(event) => void submit(event)}>
      <h2>{props.isNew ? t().registerTitle : t().signInTo}</h2>
      <label class="field">
        <span>{t().userId}</span>
        <input
          class="input"
          name="username"
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          required
          value={userId()}
          onInput={(event) => setUserId(event.currentTarget.value)}
        />
      </label>
      <Show when={props.isNew}>
        <label class="field">
          <span>{t().nickname}</span>
          <input
            class="input"
            name="nickname"
            autocomplete="nickname"
            maxlength={64}
            value={nickname()}
            onInput={(event) => setNickname(event.currentTarget.value)}
          />
        </label>
      </Show>
      <label class="field">
        <span>{t().password}</span>
        <input
          class="input"
          name="password"
          type="password"
          autocomplete={props.isNew ? "new-password" : "current-password"}
          required
          value={password()}
          onInput={(event) => setPassword(event.currentTarget.value)}
        />
        <Show when={props.isNew}>
          <small class="hint">{t().passwordRule}</small>
        </Show>
      </label>
      <label class="check">
        <input type="checkbox" checked={stay()} onChange={(event) => setStay(event.currentTarget.checked)} />
        {t().staySignedIn}
      </label>
      <Problem text={problem()} />
      <button type="submit" class="button primary wide" disabled={busy()}>
        {props.isNew ? t().register : t().signIn}
      </button>
    </form>
  );
}

function PastedToken(): JSX.Element {
  const [token, setToken] = createSignal("");
  const [stay, setStay] = createSignal(false);
  const [problem, setProblem] = createSignal("");
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const text = token().trim();
    const found = claims(text);
    if (!found) return void setProblem(t().badToken);
    setSessionTo({ userId: found.sub, token: text, stay: stay() });
  };
  return (
    <form onSubmit={submit}>
      <h2>{t().withToken}</h2>
      <p class="hint">{t().tokenHelp}</p>
      <label class="field">
        <span>{t().token}</span>
        <input
          class="input"
          type="password"
          autocomplete="off"
          required
          value={token()}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
      </label>
      <label class="check">
        <input type="checkbox" checked={stay()} onChange={(event) => setStay(event.currentTarget.checked)} />
        {t().staySignedIn}
      </label>
      <Problem text={problem()} />
      <button type="submit" class="button primary wide">
        {t().signIn}
      </button>
    </form>
  );
}

/** Gets a new token for the session that goes on, without leaving the page. */
export function Renew(props: { userId: string; account: boolean; stay: boolean; onDone: () => void }): JSX.Element {
  const [secret, setSecret] = createSignal("");
  const [problem, setProblem] = createSignal("");
  const [busy, setBusy] = createSignal(false);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      const token = props.account
        ? (await login(location.origin, { user_id: props.userId, password: secret() })).token
        : secret().trim();
      if (claims(token)?.sub !== props.userId) throw new ImError(400, t().badToken);
      setSessionTo({ userId: props.userId, token, account: props.account, stay: props.stay });
      props.onDone();
    } catch (error) {
      setProblem(sentence(error));
    }
    setBusy(false);
  };
  return (
    <form class="dialog-form" onSubmit={(event) => void submit(event)}>
      <input type="text" name="username" autocomplete="username" value={props.userId} hidden />
      <label class="field">
        <span>{props.account ? t().password : t().renewToken}</span>
        <input
          class="input"
          type="password"
          autocomplete={props.account ? "current-password" : "off"}
          autofocus
          required
          value={secret()}
          onInput={(event) => setSecret(event.currentTarget.value)}
        />
      </label>
      <Problem text={problem()} />
      <button type="submit" class="button primary wide" disabled={busy()}>
        {t().renew}
      </button>
    </form>
  );
}

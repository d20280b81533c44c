/** Says what is going on with the connection, the session and the clock, and what can be done. */

import { createEffect, createMemo, createSignal, type JSX, Match, onCleanup, Show, Switch } from "solid-js";
import { t } from "../i18n/index.ts";
import { endSession, session } from "../store/session.ts";
import { usePage } from "./context.ts";
import { Dialog } from "./dialog.tsx";
import { Renew } from "./sign-in.tsx";

/** A connection that is back within this time is not worth a word. */
const QUIET_MS = 700;
/** Clocks that differ by more are named. */
const CLOCK_MS = 5 * 60_000;

export function Banner(): JSX.Element {
  const { chat } = usePage();
  const [now, setNow] = createSignal(Date.now());
  const [online, setOnline] = createSignal(navigator.onLine);
  const [renewing, setRenewing] = createSignal(false);
  const clock = setInterval(() => setNow(Date.now()), 500);
  const follow = (): void => void setOnline(navigator.onLine);
  window.addEventListener("online", follow);
  window.addEventListener("offline", follow);
  onCleanup(() => {
    clearInterval(clock);
    window.removeEventListener("online", follow);
    window.removeEventListener("offline", follow);
  });

  const status = createMemo(() => chat.connection().status);
  const isSettled = createMemo(() => status() === "online" && chat.connection().synced);
  const [isLate, setLate] = createSignal(false);
  createEffect(() => {
    if (isSettled()) return void setLate(false);
    const timer = setTimeout(() => setLate(true), QUIET_MS);
    onCleanup(() => clearTimeout(timer));
  });
  const reason = (): { code: number; message: string } | undefined => chat.refused() ?? chat.connection().reason;
  const seconds = (): number => Math.ceil(((chat.connection().retryAt ?? 0) - now()) / 1000);
  const minutes = (): number => Math.ceil((chat.tokenLeft() ?? 0) / 60_000);
  const isStopped = (): boolean => status() === "stopped" || chat.refused() !== undefined;
  const refusesToken = (): boolean => isStopped() && [401, 4401, 4402].includes(reason()?.code ?? 0);
  createEffect(() => {
    if (!chat.needsToken() && !refusesToken()) setRenewing(false);
  });
  const stopText = (): string => {
    switch (reason()?.code) {
      case 4409:
        return t().replaced;
      case 4429:
        return t().tooMany;
      case 403:
      case 4403:
        return t().notAllowed;
      default:
        return t().needsUpdate;
    }
  };

  return (
    <div role="status">
      <Switch>
        <Match when={chat.needsToken() || refusesToken()}>
          <div class="banner">
            <span>{chat.needsToken() === "expiring" ? t().sessionEnds(minutes()) : t().sessionEnded}</span>
            <button type="button" class="link-button" onClick={() => setRenewing(true)}>
              {t().renew}
            </button>
            <button type="button" class="link-button" onClick={endSession}>
              {t().signOut}
            </button>
          </div>
        </Match>
        <Match when={isStopped()}>
          <div class="banner">
            <span>
              {stopText()}
              <Show when={reason()?.message}>{(text) => <small>{t().serverSays(text())}</small>}</Show>
            </span>
            <button type="button" class="link-button" onClick={() => location.reload()}>
              {t().reload}
            </button>
          </div>
        </Match>
        <Match when={!online() && status() !== "online"}>
          <div class="banner">
            <span>{t().offline}</span>
          </div>
        </Match>
        <Match when={isLate() && status() === "online"}>
          <div class="banner info">
            <i class="spinner" />
            <span>{t().catchingUp}</span>
          </div>
        </Match>
        <Match when={isLate() && status() === "waiting"}>
          <div class="banner">
            <span>
              {seconds() > 0 ? t().waiting(seconds()) : t().waitingNow}
              <Show when={reason()?.message}>{(text) => <small>{t().serverSays(text())}</small>}</Show>
            </span>
            <button type="button" class="link-button" onClick={() => chat.client.retryNow()}>
              {t().reconnectNow}
            </button>
          </div>
        </Match>
        <Match when={isLate()}>
          <div class="banner info">
            <i class="spinner" />
            <span>{t().connecting}</span>
          </div>
        </Match>
        <Match when={Math.abs(chat.clockOffset()) > CLOCK_MS}>
          <div class="banner info">
            <span>{t().clockDiffers(Math.round(Math.abs(chat.clockOffset()) / 60_000))}</span>
          </div>
        </Match>
      </Switch>
      <Show when={renewing() && session()} keyed>
        {(own) => (
          <Dialog title={`${t().renewTitle} ${own.userId}`} onClose={() => setRenewing(false)}>
            <Renew
              userId={own.userId}
              account={own.account === true}
              stay={own.stay === true}
              onDone={() => {
                setRenewing(false);
                // A client that has stopped begins again with the new token.
                if (isStopped()) location.reload();
              }}
            />
          </Dialog>
        )}
      </Show>
    </div>
  );
}

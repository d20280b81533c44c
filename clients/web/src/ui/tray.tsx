/** The files that go with the next message: above the field, with the progress of their uploads. */

import { For, type JSX, Match, Show, Switch } from "solid-js";
import { locale, t } from "../i18n/index.ts";
import { sizeText, typeText } from "../lib/files.ts";
import type { Tray, TrayFile } from "../store/tray.ts";
import { usePage } from "./context.ts";
import { Icon } from "./icon.tsx";

export function TrayView(props: { tray: Tray; onRemoved: () => void }): JSX.Element {
  return (
    <Show when={props.tray.files().length > 0}>
      <ul class="tray" aria-label={t().attachedFiles}>
        <For each={props.tray.files()}>{(one) => <Item one={one} tray={props.tray} onRemoved={props.onRemoved} />}</For>
      </ul>
    </Show>
  );
}

function Item(props: { one: TrayFile; tray: Tray; onRemoved: () => void }): JSX.Element {
  const { chat } = usePage();
  const { file, preview, state } = props.one;
  const failure = (): string => {
    const now = state();
    if (now.kind !== "failed") return "";
    return now.code === 0 ? t().uploadLost : now.message;
  };
  const sent = (): number => {
    const now = state();
    return now.kind === "uploading" ? now.sent : file.size;
  };
  const line = (): string => {
    const size = sizeText(file.size, locale());
    const now = state();
    if (now.kind === "done") return `${size} · ${t().uploaded}`;
    if (chat.connection().status !== "online") return t().uploadWaits;
    return now.kind === "uploading" && now.sent > 0 ? `${sizeText(now.sent, locale())} / ${size}` : size;
  };
  return (
    <li class="tray-file" classList={{ failed: failure() !== "" }} data-state={state().kind}>
      <span class="tray-picture">
        <Show when={preview} fallback={<FileSign name={file.name} type={file.type} />}>
          {(address) => <img src={address()} alt="" />}
        </Show>
      </span>
      <span class="tray-about">
        <bdi class="ellipsis" title={file.name}>
          {file.name}
        </bdi>
        <Switch>
          <Match when={failure()}>
            <small class="error-text" role="alert">
              {failure()}
            </small>
          </Match>
          <Match when={true}>
            <small class="ellipsis">{line()}</small>
            <Show when={state().kind === "uploading"}>
              <progress max={Math.max(1, file.size)} value={sent()} aria-label={t().uploadProgress(file.name)} />
            </Show>
          </Match>
        </Switch>
      </span>
      <Show when={failure()}>
        <button
          type="button"
          class="icon-button small"
          aria-label={t().uploadAgain(file.name)}
          title={t().retry}
          onClick={() => props.tray.retry(props.one)}
        >
          <Icon name="again" />
        </button>
      </Show>
      <button
        type="button"
        class="icon-button small"
        aria-label={t().removeFile(file.name)}
        title={t().removeFile(file.name)}
        onClick={() => {
          props.tray.remove(props.one);
          props.onRemoved();
        }}
      >
        <Icon name="close" />
      </button>
    </li>
  );
}

function FileSign(props: { name: string; type: string }): JSX.Element {
  return (
    <Show when={typeText(props.name, props.type)} fallback={<Icon name="file" />}>
      {(text) => <span aria-hidden="true">{text()}</span>}
    </Show>
  );
}

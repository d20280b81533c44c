/** The pictures of a conversation, one at a time, in the whole window. */

import { createEffect, createMemo, createSignal, type JSX, on, onMount, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { full, isTime } from "../lib/time.ts";
import type { Picture } from "../store/talk.ts";
import { Download, pictureText } from "./attachments.tsx";
import { usePage, useTalk } from "./context.ts";
import { Icon, type IconName } from "./icon.tsx";

/** A finger that moves this far, and more across than down, turns the page. */
const SWIPE_PX = 60;

export function Gallery(props: { fileId: string }): JSX.Element {
  const { chat } = usePage();
  const talk = useTalk();
  let element!: HTMLDialogElement;
  const pictures = createMemo(() => talk.pictures());
  const at = createMemo(() => pictures().findIndex(({ file }) => file.file_id === props.fileId));
  const shown = (): Picture | undefined => pictures()[at()];
  const close = (): void => element.close();
  const step = (by: number): void => {
    const next = pictures()[at() + by];
    if (next) talk.setPicture(next.file.file_id);
  };
  // It was recalled while it was shown.
  createEffect(
    on(at, (now, before) => {
      if (now >= 0) return;
      const next = pictures()[Math.min(before ?? 0, pictures().length - 1)];
      if (next) talk.setPicture(next.file.file_id);
      else close();
    }),
  );
  onMount(() => element.showModal());
  const keys = (event: KeyboardEvent): void => {
    const to = { ArrowLeft: -1, ArrowRight: 1, Home: -at(), End: pictures().length - 1 - at() }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    step(to);
  };
  let from = { x: 0, y: 0 };
  const touched = (event: TouchEvent): void => {
    const [touch] = event.touches;
    if (touch) from = { x: touch.clientX, y: touch.clientY };
  };
  const released = (event: TouchEvent): void => {
    const [touch] = event.changedTouches;
    if (!touch) return;
    const [x, y] = [touch.clientX - from.x, touch.clientY - from.y];
    if (Math.abs(x) > SWIPE_PX && Math.abs(x) > 2 * Math.abs(y)) step(x < 0 ? 1 : -1);
  };
  return (
    <dialog
      ref={element}
      class="gallery"
      aria-label={t().gallery}
      onClose={() => talk.setPicture(undefined)}
      on:keydown={keys}
      onTouchStart={touched}
      onTouchEnd={released}
    >
      <Show when={shown()}>
        {(picture) => (
          <>
            <div class="gallery-head">
              <span class="gallery-about">
                <bdi class="ellipsis">{picture().file.name ?? t().picture}</bdi>
                <small class="ellipsis">
                  <bdi>{picture().message.mine ? t().you : chat.directory.user(picture().message.senderId)}</bdi>
                  {isTime(picture().message.sendTime) ? ` · ${full(picture().message.sendTime)}` : ""}
                </small>
              </span>
              <span class="gallery-count" role="status">
                {t().pictureOf(at() + 1, pictures().length)}
              </span>
              <Download class="icon-button" file={picture().file} title={t().download}>
                <Icon name="download" />
              </Download>
              <button type="button" class="icon-button" aria-label={t().close} title={t().close} onClick={close}>
                <Icon name="close" />
              </button>
            </div>
            <Shown picture={picture()} onOutside={close} />
            <Turn icon="back" class="previous" text={t().previousPicture} off={at() <= 0} run={() => step(-1)} />
            <Turn
              icon="next"
              class="next"
              text={t().nextPicture}
              off={at() >= pictures().length - 1}
              run={() => step(1)}
            />
          </>
        )}
      </Show>
    </dialog>
  );
}

/** The picture itself; the small one is shown until it has loaded. */
function Shown(props: { picture: Picture; onOutside: () => void }): JSX.Element {
  const { chat } = usePage();
  const id = createMemo(() => props.picture.file.file_id);
  const [loaded, setLoaded] = createSignal("");
  const url = (): string | null | undefined => chat.files.url(id(), "original");
  const size = (): { width?: number; height?: number } => {
    const { width, height } = props.picture.file;
    return width && height ? { width, height } : {};
  };
  return (
    // biome-ignore lint/a11y: a click beside the picture closes, as the button and Escape do
    <div class="gallery-picture" onClick={(event) => event.target === event.currentTarget && props.onOutside()}>
      <Show when={loaded() !== id() && url() !== null}>
        <Show when={chat.files.url(id(), "thumb")} fallback={<i class="spinner" />}>
          {(thumb) => <img class="small" src={thumb()} alt="" {...size()} />}
        </Show>
      </Show>
      <Show when={url() === null}>
        <p>{t().pictureMissing}</p>
      </Show>
      <Show when={url()}>
        {(address) => (
          <img
            src={address()}
            alt={pictureText(chat, props.picture.file, props.picture.message)}
            classList={{ loading: loaded() !== id() }}
            {...size()}
            onLoad={() => setLoaded(id())}
            onError={() => chat.files.failed(id(), "original")}
          />
        )}
      </Show>
    </div>
  );
}

function Turn(props: { icon: IconName; class: string; text: string; off: boolean; run: () => void }): JSX.Element {
  return (
    <button
      type="button"
      class={`icon-button gallery-turn ${props.class}`}
      aria-label={props.text}
      title={props.text}
      // Not `disabled`: the focus would be lost at the last picture.
      aria-disabled={props.off}
      onClick={() => props.run()}
    >
      <Icon name={props.icon} />
    </button>
  );
}

/** Pictures and files of a message. */

import type { Attachment, FileSize, Message } from "im-client";
import { createMemo, createSignal, For, type JSX, Match, Show, Switch } from "solid-js";
import { locale, t } from "../i18n/index.ts";
import { kindOf, roomOf, sizeText, typeText } from "../lib/files.ts";
import { placeholder } from "../lib/placeholder.ts";
import { usePage, useTalk } from "./context.ts";
import { Icon } from "./icon.tsx";

export function Attachments(props: { message: Message }): JSX.Element {
  const all = (): readonly Attachment[] => props.message.attachments ?? [];
  const pictures = createMemo(() => all().filter(({ content_type }) => kindOf(content_type) === "picture"));
  const others = createMemo(() => all().filter(({ content_type }) => kindOf(content_type) !== "picture"));
  return (
    <>
      <Show when={pictures().length > 0}>
        <div class="pictures" classList={{ several: pictures().length > 1, pairs: [2, 4].includes(pictures().length) }}>
          <For each={pictures()}>
            {(file) => <PictureButton file={file} message={props.message} isSingle={pictures().length === 1} />}
          </For>
        </div>
      </Show>
      <For each={others()}>
        {(file) => (
          <Switch fallback={<FileCard file={file} />}>
            <Match when={kindOf(file.content_type) === "video"}>
              <Media file={file} isVideo />
            </Match>
            <Match when={kindOf(file.content_type) === "audio"}>
              <Media file={file} isVideo={false} />
            </Match>
          </Switch>
        )}
      </For>
    </>
  );
}

/** What a picture is called by those who do not see it. */
export function pictureText(chat: ReturnType<typeof usePage>["chat"], file: Attachment, message: Message): string {
  return t().pictureBy(file.name ?? t().picture, message.mine ? t().you : chat.directory.user(message.senderId));
}

/** A small picture that leads to the gallery. Its room is known before it has loaded. */
function PictureButton(props: { file: Attachment; message: Message; isSingle: boolean }): JSX.Element {
  const { chat } = usePage();
  const talk = useTalk();
  const room = createMemo(() => roomOf(props.file));
  // Without a small one, the whole picture.
  const size = createMemo(
    (): FileSize => (chat.files.url(props.file.file_id, "thumb") === null ? "original" : "thumb"),
  );
  const url = (): string | null | undefined => chat.files.url(props.file.file_id, size());
  const [isLoaded, setLoaded] = createSignal(false);
  return (
    <button
      type="button"
      class="picture-button"
      style={
        props.isSingle
          ? { width: `${room().width}px`, "aspect-ratio": `${room().width} / ${room().height}` }
          : { "aspect-ratio": "1" }
      }
      aria-haspopup="dialog"
      onClick={() => talk.setPicture(props.file.file_id)}
    >
      <Show when={!isLoaded() && url() !== null && placeholder(props.file.thumbhash)}>
        {(address) => <img class="placeholder" src={address()} alt="" />}
      </Show>
      <Show
        when={url()}
        fallback={
          <Show when={url() === null}>
            <span class="missing">
              <Icon name="picture" />
              {t().pictureMissing}
            </span>
          </Show>
        }
      >
        {(address) => (
          <img
            src={address()}
            alt={pictureText(chat, props.file, props.message)}
            decoding="async"
            onLoad={() => setLoaded(true)}
            onError={() => chat.files.failed(props.file.file_id, size())}
          />
        )}
      </Show>
      <Show when={!url()}>
        <span class="hidden-text">{pictureText(chat, props.file, props.message)}</span>
      </Show>
    </button>
  );
}

/** The size and the type of a file in a line. */
function about({ name = "", size, content_type }: Attachment): string {
  const type = typeText(name, content_type);
  return [size === undefined ? "" : sizeText(size, locale()), type].filter((text) => text !== "").join(" · ");
}

/** A link that downloads a file; with a title if there is no text in it. An address that has expired is replaced before. */
export function Download(props: {
  file: Attachment;
  class?: string;
  title?: string;
  children: JSX.Element;
}): JSX.Element {
  const { chat, tell } = usePage();
  const id = (): string => props.file.file_id;
  const follow = async (event: MouseEvent, link: HTMLAnchorElement): Promise<void> => {
    if (chat.files.files.peek(id()) !== undefined) return;
    event.preventDefault();
    try {
      const url = (await chat.files.files.links([id()])).get(id())?.url;
      if (url === undefined) return tell(t().fileMissing);
      link.href = url;
      link.click();
    } catch {
      tell(t().fileMissing);
    }
  };
  return (
    <a
      class={props.class ?? ""}
      href={chat.files.url(id(), "original") ?? "#"}
      download={props.file.name ?? ""}
      target="_blank"
      rel="noopener noreferrer"
      title={props.title}
      aria-label={props.title === undefined ? undefined : t().downloadFile(props.file.name ?? t().file)}
      onClick={(event) => void follow(event, event.currentTarget)}
    >
      {props.children}
    </a>
  );
}

function FileCard(props: { file: Attachment }): JSX.Element {
  return (
    <Download class="file-card" file={props.file}>
      <span class="hidden-text">{t().download}</span>
      <span class="file-icon">
        <Icon name="file" />
      </span>
      <span class="file-about">
        <bdi class="file-name">{props.file.name ?? t().file}</bdi>
        <small>{about(props.file)}</small>
      </span>
      <Icon name="download" />
    </Download>
  );
}

/** Sound or film, with the controls of the browser. */
function Media(props: { file: Attachment; isVideo: boolean }): JSX.Element {
  const { chat } = usePage();
  const id = (): string => props.file.file_id;
  const url = (): string | null | undefined => chat.files.url(id(), "original");
  const room = createMemo(() => roomOf(props.file.width ? props.file : { width: 320, height: 180 }));
  const failed = (): void => chat.files.failed(id(), "original");
  return (
    <div class="media">
      <Show
        when={props.isVideo}
        fallback={
          // biome-ignore lint/a11y/useMediaCaption: what a user sends has no captions
          <audio controls preload="metadata" src={url() ?? undefined} aria-label={props.file.name} onError={failed} />
        }
      >
        {/* biome-ignore lint/a11y/useMediaCaption: what a user sends has no captions */}
        <video
          controls
          playsinline
          preload="metadata"
          src={url() ?? undefined}
          aria-label={props.file.name}
          style={{ width: `${room().width}px`, "aspect-ratio": `${room().width} / ${room().height}` }}
          onError={failed}
        />
      </Show>
      <FileCard file={props.file} />
    </div>
  );
}

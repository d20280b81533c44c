/** Beside a conversation: the other user, or the group with its members, and what may be done. */

import type { Conversation, Group, Member } from "im-client";
import { createEffect, createSignal, For, type JSX, on, onCleanup, Show } from "solid-js";
import { t } from "../i18n/index.ts";
import { brief } from "../lib/time.ts";
import { SYSTEM } from "../store/timeline.ts";
import { titleOf } from "../store/titles.ts";
import { Avatar } from "./avatar.tsx";
import { AvatarEditor } from "./avatar-editor.tsx";
import { usePage } from "./context.ts";
import { useConversationItems } from "./conversation-menu.tsx";
import { Problem, sentence } from "./dialog.tsx";
import { AddMembers, Rename } from "./group-dialogs.tsx";
import { Icon, type IconName } from "./icon.tsx";
import { Menu, type MenuItem } from "./popup.tsx";

const PAGE = 50;
const HOUR_MS = 3_600_000;

export function Details(props: { conversation: Conversation; onClose: () => void }): JSX.Element {
  const { chat } = usePage();
  const { conversation } = props;
  const title = (): string => titleOf(chat, chat.of(conversation));
  const isAdmin = (): boolean => {
    const role = conversation.kind === "group" ? chat.directory.group(conversation.id)?.role : undefined;
    return chat.of(conversation).member && (role === "owner" || role === "admin");
  };
  const items = useConversationItems(conversation, () => true);
  return (
    <aside class="details" aria-label={t().details}>
      <div class="details-head">
        <h2>{t().details}</h2>
        <button type="button" class="icon-button" aria-label={t().close} onClick={() => props.onClose()}>
          <Icon name="close" />
        </button>
      </div>
      <div class="details-body">
        <div class="details-top">
          <Avatar id={conversation.peer ?? conversation.id} name={title()} kind={conversation.kind} size="large" />
          <h3>
            <bdi>{title()}</bdi>
          </h3>
          <p class="hint">
            <bdi>{conversation.peer ?? conversation.id}</bdi>
          </p>
          <Show when={isAdmin()}>
            <AvatarEditor kind="group" id={conversation.id} />
          </Show>
        </div>
        <Show when={items().length > 0}>
          <div class="details-actions">
            <For each={items()}>
              {(item) => <Act icon={item.icon} text={item.text} danger={item.danger === true} run={item.run} />}
            </For>
          </div>
        </Show>
        <Show when={conversation.kind === "group"} fallback={<Person conversation={conversation} />}>
          <GroupDetails conversation={conversation} />
        </Show>
      </div>
    </aside>
  );
}

function Act(props: { icon: IconName; text: string; danger?: boolean; run: () => void }): JSX.Element {
  return (
    <button type="button" classList={{ "danger-text": props.danger === true }} onClick={() => props.run()}>
      <Icon name={props.icon} />
      {props.text}
    </button>
  );
}

function Person(props: { conversation: Conversation }): JSX.Element {
  const { chat, ask } = usePage();
  const peer = props.conversation.peer ?? "";
  const [blocked, setBlocked] = createSignal<boolean | undefined>(undefined);
  const [problem, setProblem] = createSignal("");
  const look = async (): Promise<void> => {
    let cursor: string | undefined;
    do {
      const page = await chat.client.blocks.list(cursor, 500);
      if (page.user_ids.includes(peer)) return void setBlocked(true);
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    setBlocked(false);
  };
  look().catch((error: unknown) => setProblem(sentence(error)));
  const block = (): void =>
    ask({
      title: t().blockConfirm(chat.directory.user(peer)),
      text: t().blockText,
      action: t().block,
      danger: true,
      run: async () => {
        await chat.client.blocks.add(peer);
        setBlocked(true);
      },
    });
  const unblock = (): void => {
    chat.client.blocks.remove(peer).then(
      () => setBlocked(false),
      (error: unknown) => setProblem(sentence(error)),
    );
  };
  return (
    <Show when={peer !== chat.me}>
      <Problem text={problem()} />
      <div class="details-actions">
        <Show when={blocked() !== undefined}>
          <Show when={blocked()} fallback={<Act icon="block" text={t().block} danger run={block} />}>
            <p class="hint">{t().blockedUser}</p>
            <Act icon="block" text={t().unblock} run={unblock} />
          </Show>
        </Show>
      </div>
    </Show>
  );
}

type DialogName = "add" | "rename";

function GroupDetails(props: { conversation: Conversation }): JSX.Element {
  const { chat, open, ask } = usePage();
  const { id } = props.conversation;
  const [members, setMembers] = createSignal<Member[]>([]);
  const [cursor, setCursor] = createSignal<string | undefined>(undefined);
  const [problem, setProblem] = createSignal("");
  const [dialog, setDialog] = createSignal<DialogName | undefined>(undefined);
  const group = (): Group | undefined => chat.directory.group(id);
  const role = (): string => group()?.role ?? "member";
  const isAdmin = (): boolean => role() === "owner" || role() === "admin";

  /** Reads again what is shown, and further pages of members up to the one after `from`. */
  const load = async (from?: string): Promise<void> => {
    try {
      const page = await chat.client.groups.members(
        id,
        from,
        from === undefined ? Math.max(PAGE, Math.min(500, members().length)) : PAGE,
      );
      setMembers(from === undefined ? page.members : [...members(), ...page.members]);
      setCursor(page.next_cursor);
      setProblem("");
    } catch (error) {
      setProblem(sentence(error));
    }
  };
  const run = async (change: Promise<unknown>): Promise<void> => {
    try {
      await change;
      await chat.directory.loadGroup(id);
    } catch (error) {
      setProblem(sentence(error));
      return;
    }
    await load();
  };
  void load();
  onCleanup(
    chat.client.on("group", ({ conversationId }) => {
      if (conversationId === id) void load();
    }),
  );
  onCleanup(
    chat.client.on("messages", ({ conversation, messages }) => {
      if (conversation.id !== id || !messages.some(({ msgType }) => msgType === SYSTEM)) return;
      void chat.directory.loadGroup(id).then(
        () => load(),
        () => {},
      );
    }),
  );
  createEffect(
    on(
      () => group()?.members,
      () => void load(),
      { defer: true },
    ),
  );

  const actions = (member: Member): MenuItem[] => {
    const { groups } = chat.client;
    const items: MenuItem[] = [];
    const name = chat.directory.user(member.user_id);
    if (member.user_id === chat.me) return items;
    items.push({ icon: "chat", text: t().sendMessage, run: () => open(chat.client.direct(member.user_id)) });
    const isLower = role() === "owner" || (role() === "admin" && member.role === "member");
    if (role() === "owner") {
      const next = member.role === "admin" ? "member" : "admin";
      items.push({
        icon: "user",
        text: next === "admin" ? t().makeAdmin : t().makeMember,
        run: () => void run(groups.setMember(id, member.user_id, { role: next })),
      });
      items.push({
        icon: "user",
        text: t().makeOwner,
        run: () =>
          ask({
            title: t().makeOwner,
            text: t().makeOwnerText(name),
            action: t().makeOwner,
            run: () => run(groups.setMember(id, member.user_id, { role: "owner" })),
          }),
      });
    }
    if (isLower) {
      const isMutedNow = member.muted_until > Date.now() + chat.clockOffset();
      const until = isMutedNow ? 0 : Date.now() + chat.clockOffset() + HOUR_MS;
      items.push({
        icon: "mute",
        text: isMutedNow ? t().unmuteMember : t().muteMember,
        run: () => void run(groups.setMember(id, member.user_id, { muted_until: until })),
      });
      items.push({
        icon: "trash",
        text: t().remove,
        danger: true,
        run: () =>
          ask({
            title: t().removeConfirm(name),
            action: t().remove,
            danger: true,
            run: () => run(groups.remove(id, member.user_id)),
          }),
      });
    }
    return items;
  };
  const roleName = (member: Member): string =>
    member.role === "owner" ? t().owner : member.role === "admin" ? t().admin : "";
  const note = (member: Member): string => {
    const until = member.muted_until;
    return until > Date.now() + chat.clockOffset() ? `${t().mutedMember} (${brief(until, t())})` : "";
  };

  return (
    <>
      <Problem text={problem()} />
      <Show when={props.conversation.member}>
        <section>
          <div class="section-head">
            <h3>{t().members(group()?.members ?? members().length)}</h3>
            <Show when={isAdmin()}>
              <button type="button" class="button small" onClick={() => setDialog("add")}>
                {t().addMembers}
              </button>
            </Show>
          </div>
          <For each={members()}>
            {(member) => (
              <div class="person">
                <Avatar id={member.user_id} name={chat.directory.user(member.user_id)} size="small" />
                <span class="who">
                  <bdi class="ellipsis">
                    {member.user_id === chat.me ? t().you : chat.directory.user(member.user_id)}
                  </bdi>
                  <Show when={note(member)}>
                    <small>{note(member)}</small>
                  </Show>
                </span>
                <Show when={roleName(member)}>
                  <span class="tag">{roleName(member)}</span>
                </Show>
                <Show when={actions(member).length > 0}>
                  <Menu small label={t().memberActions(chat.directory.user(member.user_id))} items={actions(member)} />
                </Show>
              </div>
            )}
          </For>
          <Show when={cursor()}>
            {(from) => (
              <button type="button" class="button small wide" onClick={() => void load(from())}>
                {t().loadMore}
              </button>
            )}
          </Show>
        </section>
        <div class="details-actions">
          <Show when={isAdmin()}>
            <Act icon="edit" text={t().renameGroup} run={() => setDialog("rename")} />
            <label class="check">
              <input
                type="checkbox"
                checked={group()?.muted === true}
                onChange={(event) => void run(chat.client.groups.update(id, { muted: event.currentTarget.checked }))}
              />
              {t().onlyAdminsWrite}
            </label>
          </Show>
          <Show when={role() !== "owner"}>
            <Act
              icon="leave"
              text={t().leave}
              danger
              run={() =>
                ask({
                  title: t().leaveConfirm,
                  text: t().leaveText,
                  action: t().leave,
                  danger: true,
                  run: async () => {
                    await chat.client.groups.remove(id, chat.me);
                    open(undefined);
                  },
                })
              }
            />
          </Show>
          <Show when={role() === "owner"}>
            <Act
              icon="trash"
              text={t().dismiss}
              danger
              run={() =>
                ask({
                  title: t().dismissConfirm,
                  text: t().dismissText,
                  action: t().dismiss,
                  danger: true,
                  run: async () => {
                    await chat.client.groups.dismiss(id);
                    open(undefined);
                  },
                })
              }
            />
          </Show>
        </div>
      </Show>
      <Show when={dialog() === "add"}>
        <AddMembers id={id} onClose={() => setDialog(undefined)} onDone={() => void run(Promise.resolve())} />
      </Show>
      <Show when={dialog() === "rename"}>
        <Rename id={id} name={group()?.name ?? ""} onClose={() => setDialog(undefined)} />
      </Show>
    </>
  );
}

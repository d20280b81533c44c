import type { Conversation } from "im-client";
import { createContext, useContext } from "solid-js";
import type { Chat } from "../store/chat.ts";
import type { Talk } from "../store/talk.ts";
import type { Question } from "./dialog.tsx";

/** What every part of the chat uses. */
export interface Page {
  readonly chat: Chat;
  /** Shows a conversation; `undefined` shows none. */
  open(conversation: Conversation | undefined): void;
  /** Asks before something is done. */
  ask(question: Question): void;
  /** Says for some seconds that something was not done. */
  tell(text: string): void;
}

export const PageContext = createContext<Page>();

export function usePage(): Page {
  const page = useContext(PageContext);
  if (!page) throw new Error("used outside of the chat page");
  return page;
}

export const TalkContext = createContext<Talk>();

/** The conversation that is shown, and what belongs to it. */
export function useTalk(): Talk {
  const talk = useContext(TalkContext);
  if (!talk) throw new Error("used outside of a conversation");
  return talk;
}

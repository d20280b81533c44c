import type { JSX } from "solid-js";

const shapes = {
  again: "M20 12a8 8 0 11-2.4-5.7L20 8.5M20 4v4.5h-4.5",
  archive: "M4 5h16v4H4zM6 9v10h12V9M10 13h4",
  attach: "M20 11.5l-8.2 8.2a5.3 5.3 0 01-7.5-7.5l8.6-8.6a3.5 3.5 0 015 5l-8.6 8.6a1.8 1.8 0 01-2.5-2.5l7.8-7.8",
  at: "M12 8.5a3.5 3.5 0 100 7 3.5 3.5 0 000-7zM15.5 8.5v5c0 3 5 2.5 5-1.5a8.5 8.5 0 10-3.4 6.8",
  add: "M12 5v14M5 12h14",
  back: "M15 5l-7 7 7 7",
  block: "M12 3a9 9 0 100 18 9 9 0 000-18zM5.7 5.7l12.6 12.6",
  chat: "M4 12c0-4.4 3.6-7.5 8-7.5s8 3.1 8 7.5-3.6 7.5-8 7.5c-1.2 0-2.4-.2-3.4-.7L4.5 20l1-3.4C4.5 15.4 4 13.8 4 12z",
  check: "M5 12.5l4.5 4.5L19 7.5",
  checks: "M2.5 12.5L7 17l8.5-9.5M11.5 16l1 1L21.5 7.5",
  clear: "M8 5h12v14H8l-5-7zM11 9.5l5 5M16 9.5l-5 5",
  clock: "M12 4a8 8 0 100 16 8 8 0 000-16zM12 8v4.5l3 1.5",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v11H9zM5 15V4h10",
  down: "M6 9l6 6 6-6",
  download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  edit: "M4 20h4L19 9l-4-4L4 16z",
  error: "M12 4a8 8 0 100 16 8 8 0 000-16zM12 8v5M12 16v.01",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9a3 3 0 100 6 3 3 0 000-6z",
  file: "M6 3h8l5 5v13H6zM14 3v5h5",
  forward: "M14 7l5 5-5 5M19 12h-8c-4 0-6 2-6.5 6",
  group:
    "M9 5a3.5 3.5 0 100 7 3.5 3.5 0 000-7zM2.5 19.5c.5-3.5 3-5.5 6.5-5.5s6 2 6.5 5.5M16 5.5a3.2 3.2 0 010 6M18 14.5c2 .7 3.2 2.5 3.5 5",
  info: "M12 4a8 8 0 100 16 8 8 0 000-16zM12 11v5M12 8v.01",
  list: "M8 6h12M8 12h12M8 18h12M4 6v.01M4 12v.01M4 18v.01",
  leave: "M14 4H6v16h8M10 12h10M17 8.5l3.5 3.5-3.5 3.5",
  more: "M12 5.5v.01M12 12v.01M12 18.5v.01",
  bell: "M12 4a5 5 0 00-5 5v4l-1.5 3h13L17 13V9a5 5 0 00-5-5zM10.5 19a1.6 1.6 0 003 0",
  mute: "M5 10v4h3l4 3.5v-11L8 10zM16 9.5l5 5M21 9.5l-5 5",
  next: "M9 5l7 7-7 7",
  picture: "M4 5h16v14H4zM4 16l4.5-4.5 4 4 2.5-2.5 5 5M15.5 9v.01",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  recall: "M9 7L4.5 11.5 9 16M5 11.5h9a5 5 0 010 10h-2",
  reply: "M10 7l-5 5 5 5M5 12h8c4 0 6 2 6.5 6",
  search: "M11 4.5a6.5 6.5 0 100 13 6.5 6.5 0 000-13zM16 16l4.5 4.5",
  send: "M4.5 12l-1-7.5L21 12 3.5 19.5l1-7.5zM4.5 12H12",
  settings:
    "M12 9a3 3 0 100 6 3 3 0 000-6zM19 12a7 7 0 00-.1-1.3l2-1.5-2-3.4-2.3 1a7 7 0 00-2.2-1.3L14 3h-4l-.4 2.5a7 7 0 00-2.2 1.3l-2.3-1-2 3.4 2 1.5a7 7 0 000 2.6l-2 1.5 2 3.4 2.3-1a7 7 0 002.2 1.3L10 21h4l.4-2.5a7 7 0 002.2-1.3l2.3 1 2-3.4-2-1.5c.1-.4.1-.9.1-1.3z",
  smile: "M12 3.5a8.5 8.5 0 100 17 8.5 8.5 0 000-17zM8.5 14c.8 1.5 2 2.3 3.5 2.3s2.7-.8 3.5-2.3M9 9.5v.01M15 9.5v.01",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 13h8.4L17 7",
  unread: "M4 6h9M4 6v12h16v-7M4 6l8 6 3-2.2M18.5 3.5a2.5 2.5 0 100 5 2.5 2.5 0 000-5z",
  user: "M12 4a4 4 0 100 8 4 4 0 000-8zM4.5 20c.6-4 3.4-6 7.5-6s6.9 2 7.5 6",
} as const;

export type IconName = keyof typeof shapes;

/** A drawing without meaning of its own: a text or a label is beside it. */
export function Icon(props: { name: IconName; class?: string }): JSX.Element {
  return (
    <svg class={`icon ${props.class ?? ""}`} viewBox="0 0 24 24" aria-hidden="true">
      <path d={shapes[props.name]} />
    </svg>
  );
}

/** What opens beside a button: in the top layer, where nothing cuts it off. A click outside and Escape close it. */

import { createSignal, type JSX, onMount, Show } from "solid-js";
import { Icon, type IconName } from "./icon.tsx";

/** The distance in pixels between a button and its popup, and between the popup and the edges of the window. */
const GAP_PX = 6;

export function Popup(props: {
  anchor: HTMLElement;
  role: "menu" | "group";
  label: string;
  class?: string;
  onClose: () => void;
  children: JSX.Element;
}): JSX.Element {
  let element!: HTMLDivElement;
  const place = (): void => {
    const anchor = props.anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = element;
    const isRtl = getComputedStyle(element).direction === "rtl";
    const left = isRtl ? anchor.left : anchor.right - width;
    const below = anchor.bottom + GAP_PX;
    const top = below + height > innerHeight - GAP_PX ? anchor.top - GAP_PX - height : below;
    element.style.left = `${Math.max(GAP_PX, Math.min(left, innerWidth - width - GAP_PX))}px`;
    element.style.top = `${Math.max(GAP_PX, Math.min(top, innerHeight - height - GAP_PX))}px`;
  };
  const close = (): void => {
    // The focus goes back, unless it has gone elsewhere already.
    const hadFocus = element.contains(document.activeElement) || document.activeElement === document.body;
    props.onClose();
    if (hadFocus && props.anchor.isConnected) props.anchor.focus();
  };
  onMount(() => {
    element.showPopover();
    place();
    element.querySelector<HTMLElement>("button, input")?.focus();
  });
  const keys = (event: KeyboardEvent): void => {
    if (event.key === "Escape") {
      element.hidePopover();
    } else if (props.role === "menu") {
      const items = [...element.querySelectorAll<HTMLElement>("[role=menuitem]")];
      const at = items.indexOf(document.activeElement as HTMLElement);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
      if (event.key === "Tab") element.hidePopover();
      if (to === undefined) return;
      items.at(to % items.length)?.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    // biome-ignore lint/a11y/useAriaPropsSupportedByRole: both roles have labels
    <div
      ref={element}
      popover="auto"
      class={`popup ${props.class ?? ""}`}
      role={props.role}
      aria-label={props.label}
      on:keydown={keys}
      on:toggle={(event: Event) => {
        if ((event as ToggleEvent).newState === "closed") close();
      }}
    >
      {props.children}
    </div>
  );
}

/** A button with a popup. */
export function PopupButton(props: {
  label: string;
  icon: IconName;
  role: "menu" | "group";
  small?: boolean;
  class?: string;
  popupClass?: string;
  /** Is given what opens it from elsewhere. */
  control?: (show: () => void) => void;
  children: (close: () => void) => JSX.Element;
}): JSX.Element {
  const [open, setOpen] = createSignal(false);
  let button!: HTMLButtonElement;
  // The click that closes it begins outside of it.
  let wasOpen = false;
  props.control?.(() => setOpen(true));
  const close = (): void => void setOpen(false);
  return (
    <>
      <button
        ref={button}
        type="button"
        class={`icon-button ${props.class ?? ""}`}
        classList={{ small: props.small === true }}
        aria-label={props.label}
        title={props.label}
        aria-haspopup={props.role === "menu" ? "menu" : undefined}
        aria-expanded={open()}
        on:pointerdown={() => {
          wasOpen = open();
        }}
        onClick={() => {
          setOpen(!wasOpen);
          wasOpen = false;
        }}
      >
        <Icon name={props.icon} />
      </button>
      <Show when={open()}>
        <Popup anchor={button} role={props.role} label={props.label} class={props.popupClass ?? ""} onClose={close}>
          {props.children(close)}
        </Popup>
      </Show>
    </>
  );
}

export interface MenuItem {
  text: string;
  icon: IconName;
  danger?: boolean;
  run: () => void;
}

/** A button with a list of actions. */
export function Menu(props: {
  label: string;
  items: MenuItem[];
  small?: boolean;
  class?: string;
  control?: (show: () => void) => void;
}): JSX.Element {
  return (
    <PopupButton
      label={props.label}
      icon="more"
      role="menu"
      small={props.small === true}
      class={props.class ?? ""}
      popupClass="menu"
      {...(props.control && { control: props.control })}
    >
      {(close) =>
        props.items.map((item) => (
          <button
            type="button"
            role="menuitem"
            tabindex="-1"
            classList={{ "danger-text": item.danger === true }}
            onClick={() => {
              close();
              item.run();
            }}
          >
            <Icon name={item.icon} />
            {item.text}
          </button>
        ))
      }
    </PopupButton>
  );
}

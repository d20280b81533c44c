/** The operations view: a form for the key, then what all processes report, once per second. */

import "uplot/dist/uPlot.min.css";
import "./ops.css";
import { type Fetched, fetchReport, isKey } from "./api.ts";
import { element, setText, store, stored } from "./dom.ts";
import { History } from "./history.ts";
import { type Language, languages, texts } from "./texts.ts";
import { languageChoice, type Trouble, View } from "./view.ts";

const INTERVAL_MS = 1_000;
const KEY = "im.ops.key";
const LANGUAGE = "im.language";
const THEME = "im.theme";

const root = document.getElementById("ops") ?? document.body;
const ofTab = (): Storage => sessionStorage;
const ofBrowser = (): Storage => localStorage;

let language: Language = chosenLanguage();
/** What runs now; another one takes its place. */
let stop: () => void = () => undefined;

function chosenLanguage(): Language {
  const chosen = stored(ofBrowser, LANGUAGE);
  if (chosen === "en" || chosen === "zh") return chosen;
  const tag = navigator.languages.find((tag) => /^(zh|en)\b/i.test(tag)) ?? "en";
  return /^zh/i.test(tag) ? "zh" : "en";
}

function setLanguage(to: Language): void {
  language = to;
  store(ofBrowser, LANGUAGE, to);
  applyLanguage();
}

function applyLanguage(): void {
  document.documentElement.lang = languages.find(({ id }) => id === language)?.tag ?? "en";
  document.title = texts[language].title;
}

function signIn(message = "", typed = ""): void {
  stop();
  stop = () => undefined;
  const t = texts[language];
  const input = element("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: "",
    "aria-describedby": "key-help",
  });
  input.value = typed;
  const error = element("p", { class: "error", role: "alert" }, message);
  const open = element("button", { type: "submit", class: "button primary" }, t.open);
  const form = element(
    "form",
    { class: "card sign-in" },
    element("h1", {}, t.title),
    element("label", { for: "key" }, t.keyLabel),
    input,
    element("p", { class: "note", id: "key-help" }, t.keyHelp),
    error,
    open,
    languageChoice(language, (to) => {
      setLanguage(to);
      signIn("", input.value);
    }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void check(input.value.trim(), error, open);
  });
  root.replaceChildren(element("main", { class: "center" }, form));
  input.focus();
}

async function check(key: string, error: HTMLElement, open: HTMLButtonElement): Promise<void> {
  const t = texts[language];
  setText(error, "");
  if (!isKey(key)) return setText(error, t.badKey);
  open.disabled = true;
  setText(open, t.opening);
  const fetched = await fetchReport(key);
  open.disabled = false;
  setText(open, t.open);
  if (fetched.kind === "refused") return setText(error, t.wrongKey);
  // A gateway that cannot answer now may know the key all the same; only it can tell.
  if (fetched.kind !== "report") return setText(error, trouble(fetched)?.text ?? "");
  store(ofTab, KEY, key);
  watch(key, fetched);
}

/** Shows the view until it is signed out or the key is refused. */
function watch(key: string, first?: Fetched): void {
  stop();
  const history = new History();
  let last: Fetched | undefined;
  let [isStopped, isPaused] = [false, false];
  let timer = 0;
  let view = makeView();
  const colors = matchMedia("(prefers-color-scheme: dark)");
  const restyle = (): void => {
    view.restyle();
    show();
  };
  const resize = new ResizeObserver(() => show());
  colors.addEventListener("change", restyle);
  resize.observe(root);
  stop = () => {
    isStopped = true;
    clearTimeout(timer);
    colors.removeEventListener("change", restyle);
    resize.disconnect();
  };

  function makeView(): View {
    const made = new View(language, {
      pause: () => {
        isPaused = !isPaused;
        show();
        if (!isPaused) void poll();
      },
      signOut: () => {
        store(ofTab, KEY, null);
        signIn();
      },
      choose: (to) => {
        setLanguage(to);
        view = makeView();
        show();
      },
    });
    root.replaceChildren(made.node);
    return made;
  }

  function show(): void {
    view.show(history, last && trouble(last), isPaused);
  }

  function take(fetched: Fetched): void {
    last = fetched;
    if (fetched.kind === "refused") {
      store(ofTab, KEY, null);
      signIn(texts[language].wrongKey);
      return;
    }
    if (fetched.kind === "report") history.add(fetched.report);
    show();
  }

  async function poll(): Promise<void> {
    clearTimeout(timer);
    const began = performance.now();
    const fetched = await fetchReport(key);
    if (isStopped || isPaused) return;
    take(fetched);
    next(performance.now() - began);
  }

  function next(elapsedMs: number): void {
    clearTimeout(timer);
    if (!isStopped && !isPaused) timer = window.setTimeout(() => void poll(), Math.max(100, INTERVAL_MS - elapsedMs));
  }

  if (first) {
    take(first);
    next(0);
  } else {
    show();
    void poll();
  }
}

function trouble(fetched: Fetched): Trouble | undefined {
  const t = texts[language];
  switch (fetched.kind) {
    case "away":
      return { isAlert: true, text: t.away };
    case "error":
      return { isAlert: true, text: fetched.status === 404 ? t.unknownCall : t.error(fetched.status, fetched.message) };
    case "report":
      return fetched.report.stale === undefined ? undefined : { isAlert: false, text: t.stale(fetched.report.stale) };
    default:
      return undefined;
  }
}

const theme = stored(ofBrowser, THEME);
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
applyLanguage();
const key = stored(ofTab, KEY);
if (key !== null && isKey(key)) watch(key);
else signIn();

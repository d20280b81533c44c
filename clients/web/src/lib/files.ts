/** Files as they are shown: kinds, sizes, and the room that a picture takes before it has loaded. */

export type FileKind = "picture" | "video" | "audio" | "file";

/** What browsers show; the SDK sends these as pictures. */
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"];
/** The largest and the smallest sides of a single picture in a conversation, in pixels. */
export const PICTURE_MAX = 340;
const PICTURE_MIN = 96;
/** For pictures whose size is unknown. */
const UNKNOWN = { width: 240, height: 180 };

interface Room {
  readonly width: number;
  readonly height: number;
}

/** How a file of this type is shown. */
export function kindOf(type: string | undefined): FileKind {
  if (PICTURES.includes(type ?? "")) return "picture";
  if (type?.startsWith("video/")) return "video";
  return type?.startsWith("audio/") ? "audio" : "file";
}

/** The room of a picture: its own proportions, within limits, so that neither a line nor a dot is left of it. */
export function roomOf({ width = 0, height = 0 }: Partial<Room>): Room {
  if (!(width > 0 && height > 0)) return UNKNOWN;
  const scale = Math.min(1, PICTURE_MAX / width, PICTURE_MAX / height);
  const within = (side: number): number => Math.max(PICTURE_MIN, Math.round(side * scale));
  return { width: within(width), height: within(height) };
}

/** A size as people read it: 1.4 MB. */
export function sizeText(bytes: number, locale: string): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let [value, at] = [bytes, 0];
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1_000;
    at++;
  }
  const digits = at > 0 && value < 9.95 ? 1 : 0;
  const options = { style: "unit", unit: units[at] ?? "byte", unitDisplay: at === 0 ? "long" : "short" } as const;
  return new Intl.NumberFormat(locale, { ...options, maximumFractionDigits: digits }).format(value);
}

/** A short word for the type of a file: what its name ends with, or the end of its type. */
export function typeText(name: string, type: string | undefined): string {
  const [, ending] = /\.([a-z0-9]{1,5})$/i.exec(name) ?? [];
  if (ending !== undefined) return ending.toUpperCase();
  const [, sub = ""] = (type ?? "").split("/");
  return /^[a-z0-9]{1,5}$/i.test(sub) ? sub.toUpperCase() : "";
}

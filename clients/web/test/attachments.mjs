// How tests attach files, and find what became of them.

import { png } from "./pictures.mjs";

/** A picture for `setInputFiles` and `give`. */
export const picture = (name, width, height, color) => ({
  name,
  mimeType: "image/png",
  buffer: png(width, height, color),
});
export const text = (name, content) => ({ name, mimeType: "text/plain", buffer: Buffer.from(content) });

/** Puts files on an element as a paste or a drop does. */
export async function give(page, selector, type, files) {
  await page.locator(selector).evaluate(
    (element, [type, files]) => {
      const data = new DataTransfer();
      for (const { name, mimeType, base64 } of files) {
        const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
        data.items.add(new File([bytes], name, { type: mimeType, lastModified: 1 }));
      }
      const options = { bubbles: true, cancelable: true };
      element.dispatchEvent(
        type === "paste"
          ? new ClipboardEvent(type, { ...options, clipboardData: data })
          : new DragEvent(type, { ...options, dataTransfer: data }),
      );
    },
    [type, files.map(({ buffer, ...file }) => ({ ...file, base64: buffer.toString("base64") }))],
  );
}

/** Chooses files, as the button's dialog does. */
export const attach = (page, files) => page.locator('.composer input[type="file"]').setInputFiles(files);
/** What is attached under this name. */
export const tray = (page, name) => page.locator(".tray-file", { hasText: name });
/** Waits until it is uploaded. */
export const uploaded = (page, name) => page.locator('.tray-file[data-state="done"]', { hasText: name }).waitFor();
/** Pictures of this name in messages. */
export const pictures = (page, name) => page.locator(`.picture-button img[alt^="${name},"]`);

/** Lets a page send this many bytes a second. */
export async function slow(page, bytes) {
  const session = await page.context().newCDPSession(page);
  const set = (uploadThroughput) =>
    session.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput,
    });
  await set(bytes);
  return () => set(-1);
}

/** A picture as an avatar. */

/** Avatars are shown smaller than this, also on screens with a high density. */
const SIDE = 512;

/** The middle of a picture as a square of at most 512 pixels. Rejects if the browser cannot read it. */
export async function squareOf(picture: Blob): Promise<Blob> {
  const bitmap = await createImageBitmap(picture);
  try {
    const side = Math.min(bitmap.width, bitmap.height);
    const to = Math.min(side, SIDE);
    const canvas = document.createElement("canvas");
    canvas.width = to;
    canvas.height = to;
    const context = canvas.getContext("2d");
    if (!context) throw new Error("there is no canvas");
    context.imageSmoothingQuality = "high";
    const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
    context.drawImage(bitmap, left, top, side, side, 0, 0, to, to);
    // Photographs get large as PNG; others may be transparent.
    const type = picture.type === "image/jpeg" ? "image/jpeg" : "image/png";
    return await new Promise((resolve, reject) =>
      canvas.toBlob((made) => (made ? resolve(made) : reject(new Error("the picture was not made"))), type, 0.9),
    );
  } finally {
    bitmap.close();
  }
}

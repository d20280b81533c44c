// Files for tests: pictures in one color with a border, and bytes.

import { crc32, deflateSync } from "node:zlib";

/** A PNG of this size. */
export function png(width, height, [red, green, blue] = [70, 130, 220]) {
  const rows = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * (width * 3 + 1) + 1 + x * 3;
      const isBorder = Math.min(x, y, width - 1 - x, height - 1 - y) < Math.min(width, height) / 20;
      const shade = isBorder ? 40 : Math.round((60 * (x + y)) / (width + height));
      rows[at] = Math.min(255, red + shade);
      rows[at + 1] = Math.min(255, green + shade);
      rows[at + 2] = Math.min(255, blue + shade);
    }
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  // Eight bits for each of three colors.
  head.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function chunk(type, data) {
  const content = Buffer.concat([Buffer.from(type), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(content));
  return Buffer.concat([length, content, sum]);
}

/** A sound: a second of a tone. */
export function wav() {
  const rate = 8_000;
  const data = Buffer.alloc(rate);
  for (let n = 0; n < rate; n++) data[n] = 128 + Math.round(60 * Math.sin((n * 2 * Math.PI * 440) / rate));
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(36 + data.length, 4);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(rate, 24);
  head.writeUInt32LE(rate, 28);
  head.writeUInt16LE(1, 32);
  head.writeUInt16LE(8, 34);
  head.write("data", 36);
  head.writeUInt32LE(data.length, 40);
  return Buffer.concat([head, data]);
}

/** Bytes that no compression shortens. */
export function noise(size) {
  const bytes = Buffer.alloc(size);
  let state = 1;
  for (let n = 0; n < size; n++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[n] = state >>> 16;
  }
  return bytes;
}

// Draws the icons that have to be PNG from the one in SVG: node test/icons.mjs

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { launch } from "./browser.mjs";

const file = (name) => fileURLToPath(new URL(`../public/web/${name}`, import.meta.url));
const svg = readFileSync(file("icon.svg"), "utf8");
/** To the edges, for systems that cut icons into a shape of their own. */
const square = svg.replace(' rx="15"', "");
/** White on nothing: systems use the shape alone. */
const shape = svg.replace(/<rect[^>]*>/, "").replace(/<g .*<\/g>/, "");

const browser = await launch();
const page = await browser.newPage();
for (const [name, size, picture] of [
  ["icon-192.png", 192, svg],
  ["icon-512.png", 512, svg],
  ["icon-maskable-512.png", 512, square],
  ["icon-180.png", 180, square],
  ["badge-96.png", 96, shape],
]) {
  await page.setViewportSize({ width: size, height: size });
  await page.setContent(`<style>body{margin:0}svg{display:block;width:${size}px}</style>${picture}`);
  await page.screenshot({ path: file(name), omitBackground: true });
}
await browser.close();

/** Emoji that can be chosen without a keyboard that has them. */

import { graphemes } from "./text.ts";

/** For messages. */
export const EMOJI = graphemes("😀😂🥰😍😎🤔😅😭😡👍👎👏🙏💪👌✌️❤️💔🔥✨🎉🎁🌹☕🍺🍜🎂⚽🚀💡✅❌⏰📷🎵🐶🐱🌞🌧️🌈", 64);
/** For reactions; any other one can be typed. */
export const REACTIONS = graphemes("👍❤️😂😮😢🎉🙏👀✅❌🔥👏", 16);

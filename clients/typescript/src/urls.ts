/** Addresses of the server. */

/** Where HTTP calls go: `https://chat.example` for `wss://chat.example/ws`. */
export function httpBase(url: string): string {
  return url.replace(/^ws/, "http").replace(/\/(ws)?$/, "");
}

/** Where the WebSocket connects. */
export function socketUrl(url: string, query: Record<string, string>): string {
  const base = `${httpBase(url).replace(/^http/, "ws")}/ws`;
  const parameters = new URLSearchParams(query).toString();
  return parameters ? `${base}?${parameters}` : base;
}

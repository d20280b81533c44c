// A server before a gateway: it answers the calls about push subscriptions by their contract, and leaves all others, and the
// WebSocket, to the gateway. A browser in a test reaches no push service, so that a gateway could send nothing there.

import { createServer, request as forward } from "node:http";
import { connect } from "node:net";

/** Keys of P-256 in base64url, as a server has them. */
export const KEYS = [0, 1].map((n) => Buffer.from([4, ...Array(64).fill(n + 1)]).toString("base64url"));

const PATH = "/api/push/subscriptions";

/** Starts it. `state` is what it offers and has, and may be changed. */
export async function pushFront(gateway) {
  const target = new URL(gateway);
  const state = { isOffered: true, key: KEYS[0], subscriptions: [], calls: [] };
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, gateway);
    if (!url.pathname.startsWith("/api/push/")) {
      const { method, headers } = request;
      const passed = forward(
        { host: target.hostname, port: target.port, path: request.url, method, headers },
        (answer) => {
          response.writeHead(answer.statusCode, answer.headers);
          answer.pipe(response);
        },
      );
      passed.on("error", () => response.destroy());
      request.pipe(passed);
      return;
    }
    let text = "";
    for await (const chunk of request) text += chunk;
    const { status, body } = answerOf(state, request.method, url, text);
    state.calls.push(`${request.method} ${url.pathname} ${status}`);
    response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
    response.end(JSON.stringify(status === 200 ? body : { code: status, message: body }));
  });
  server.on("upgrade", (request, socket, head) => {
    const lines = [`${request.method} ${request.url} HTTP/1.1`];
    for (let n = 0; n < request.rawHeaders.length; n += 2) {
      lines.push(`${request.rawHeaders[n]}: ${request.rawHeaders[n + 1]}`);
    }
    const passed = connect(Number(target.port), target.hostname, () => {
      passed.write(`${lines.join("\r\n")}\r\n\r\n`);
      passed.write(head);
      socket.pipe(passed).pipe(socket);
    });
    for (const end of [socket, passed]) end.on("error", () => [socket, passed].map((one) => one.destroy()));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { state, base: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** The contract. Users are demo users. */
function answerOf(state, method, url, text) {
  if (!state.isOffered) return { status: 404, body: "push is off" };
  const user = url.searchParams.get("user_id");
  if (url.pathname === "/api/push/config") {
    return { status: 200, body: { enabled: true, services: ["webpush"], vapid_public_key: state.key } };
  }
  if (!user) return { status: 401, body: "who is it?" };
  const own = state.subscriptions.filter((one) => one.user === user);
  if (url.pathname === PATH && method === "GET") {
    const shown = own.map(({ id, kind, endpoint }) => ({
      id,
      kind,
      endpoint_host: new URL(endpoint).host,
      created_at: 1,
    }));
    return { status: 200, body: { subscriptions: shown } };
  }
  if (url.pathname === PATH && method === "POST") {
    const { kind, endpoint, keys } = JSON.parse(text);
    if (kind !== "webpush" || !endpoint?.startsWith("https://") || !keys?.p256dh || !keys.auth) {
      return { status: 400, body: "not a subscription" };
    }
    const known = own.find((one) => one.endpoint === endpoint);
    const id = known?.id ?? `s${state.calls.length}`;
    if (!known) state.subscriptions.push({ id, user, kind, endpoint });
    return { status: 200, body: { id } };
  }
  const found = own.find(({ id }) => url.pathname === `${PATH}/${id}`);
  if (!found || method !== "DELETE") return { status: 404, body: "no such subscription" };
  state.subscriptions = state.subscriptions.filter((one) => one !== found);
  return { status: 200, body: {} };
}

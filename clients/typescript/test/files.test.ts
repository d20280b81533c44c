import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { Files, fileMessageType, ImClient, type ImError, type UploadProgress } from "../src/index.js";
import { FakeFiles, FakeXhr } from "./fake-files.js";

let server: FakeFiles;
let client: ImClient;
let files: Files;

beforeEach(async () => {
  server = new FakeFiles();
  await server.listen();
  client = new ImClient({ url: server.url, token: () => "secret" });
  files = new Files(client);
});

afterEach(() => {
  server.close();
  Reflect.deleteProperty(globalThis, "XMLHttpRequest");
});

const blob = (size: number, type = "text/plain"): Blob =>
  new Blob([Array.from({ length: size }, (_, n) => "abcdefghijklm"[n % 13]).join("")], { type });

test("a small file is sent in one request, without the token, with the headers of the server", async () => {
  const attachment = await files.upload("group_a", new File([blob(900)], "notes.txt", { type: "text/plain" }));
  assert.deepEqual(attachment, { file_id: "file-1", name: "notes.txt", size: 900, content_type: "text/plain" });
  assert.deepEqual(server.of("POST", "/api/uploads")[0]!.json(), {
    conversation_id: "group_a",
    name: "notes.txt",
    size: 900,
    content_type: "text/plain",
    parts: true,
  });
  const [put] = server.of("PUT", "/bytes/");
  assert.deepEqual([put!.headers.authorization, put!.headers["x-signed"]], [undefined, "yes"]);
  assert.equal(server.content("file-1"), await blob(900).text());
});

test("a file without a name or a type has defaults, and an avatar no conversation", async () => {
  await files.upload(null, new Blob(["x"]));
  const { conversation_id, name, content_type } = server.of("POST", "/api/uploads")[0]!.json();
  assert.deepEqual([conversation_id, name, content_type], [undefined, "file", "application/octet-stream"]);
});

test("a large file is sent in parts, three at a time, also with several uploads", async () => {
  server.delayMs = 10;
  const told: UploadProgress[] = [];
  await Promise.all([
    files.upload("group_a", blob(12_345), { onProgress: (now) => told.push(now) }),
    files.upload("group_a", blob(4_001)),
  ]);
  assert.equal(server.most, 3);
  for (const [id, size] of [
    ["file-1", 12_345],
    ["file-2", 4_001],
  ] as const)
    assert.equal(server.content(id), await blob(size).text());
  assert.deepEqual(told.at(-1), { fileId: told[0]!.fileId, sent: 12_345, size: 12_345 });
  assert.ok(told.length > 12);
  assert.ok(server.of("POST", "/api/uploads/file-1/parts").every((call) => call.json().numbers.length <= 10));
});

test("browsers tell progress in bytes", async () => {
  Object.assign(globalThis, { XMLHttpRequest: FakeXhr });
  const told: number[] = [];
  await files.upload("group_a", blob(400), { onProgress: ({ sent }) => told.push(sent) });
  assert.deepEqual([...new Set(told)], [0, 100, 200, 300, 400]);
});

for (const isBrowser of [false, true]) {
  test(`a canceled upload is dropped by the server, ${isBrowser ? "in browsers" : "with fetch"}`, async () => {
    if (isBrowser) Object.assign(globalThis, { XMLHttpRequest: FakeXhr });
    server.delayMs = 200;
    const abort = new AbortController();
    const upload = files.upload("group_a", blob(5_000), { signal: abort.signal });
    await until(() => server.running === 3);
    abort.abort(new Error("not this one"));
    await assert.rejects(upload, /not this one/);
    await until(() => server.uploads.size === 0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.ok(server.of("PUT", "/bytes/").length <= 3);
    await assert.rejects(files.upload("group_a", blob(1), { signal: abort.signal }), /not this one/);
  });
}

test("an upload that is canceled while it is begun is dropped as well", async () => {
  const abort = new AbortController();
  server.intercept = ({ path }) => {
    if (path === "/api/uploads") abort.abort();
    return undefined;
  };
  await assert.rejects(files.upload("group_a", blob(10), { signal: abort.signal }), { name: "AbortError" });
  await until(() => server.of("DELETE", "/api/uploads/file-1").length === 1);
});

test("after a cut only the parts that are missing are sent again", async () => {
  let cuts = 0;
  server.intercept = ({ method, path }) => {
    // The first two parts arrive; then the connection is gone, also for the question what has arrived.
    const isCut = (method === "PUT" && !/\/[12]$/.test(path)) || path === "/api/uploads/file-1";
    return isCut && cuts++ < 3 ? "cut" : undefined;
  };
  const attachment = await files.upload("group_a", blob(4_500));
  assert.equal(server.content(attachment.file_id), await blob(4_500).text());
  assert.ok(cuts >= 3);
  for (const n of [1, 2]) assert.equal(server.of("PUT", `/bytes/file-1/${n}`).length, 1, `part ${n}`);
  assert.equal(server.of("POST", "/api/uploads").filter(({ path }) => path === "/api/uploads").length, 1);
});

test("a part that arrived, whose answer was lost, is not sent again", async () => {
  let isLost = false;
  server.intercept = (call) => {
    if (call.method !== "PUT" || !call.path.endsWith("/3") || isLost) return undefined;
    isLost = true;
    server.uploads.get("file-1")!.parts.set(3, call.body);
    return "cut";
  };
  await files.upload("group_a", blob(4_500));
  assert.equal(server.of("PUT", "/bytes/file-1/3").length, 1);
});

test("an upload goes on after a reload, with the same file only", async () => {
  const abort = new AbortController();
  let fileId = "";
  server.intercept = ({ method, path }) => {
    if (method === "PUT" && path.endsWith("/4")) abort.abort();
    // The page is gone without a word.
    return method === "DELETE" || path.endsWith("/4") ? "cut" : undefined;
  };
  const first = files.upload("group_a", blob(4_500), {
    signal: abort.signal,
    onProgress: (now) => {
      fileId = now.fileId;
    },
  });
  await assert.rejects(first);
  await until(() => server.of("DELETE", "/api/uploads/").length > 0);
  server.intercept = undefined;
  await assert.rejects(new Files(client).resume(fileId, blob(4_400)), /another file, of 4500 bytes/);
  const before = server.of("PUT", "/bytes/").length;
  const told: number[] = [];
  const again = await new Files(client).resume(fileId, blob(4_500), { onProgress: ({ sent }) => told.push(sent) });
  assert.equal(server.content(again.file_id), await blob(4_500).text());
  assert.ok(server.of("PUT", "/bytes/").length - before < 5);
  assert.ok(told[0]! >= 1_000);
  // A second time it is complete, and nothing is sent.
  const count = server.of("PUT", "/bytes/").length;
  assert.deepEqual(await files.resume(fileId, blob(4_500)), again);
  assert.equal(server.of("PUT", "/bytes/").length, count);
  await assert.rejects(files.resume("unknown", blob(1)), (error: ImError) => error.code === 404);
});

test("503 and 429 are repeated after the server's delay; 413 and a daily limit are not", async () => {
  const times: number[] = [];
  server.intercept = ({ method }) => {
    if (method !== "PUT") return undefined;
    times.push(Date.now());
    if (times.length > 2) return undefined;
    return { status: times.length === 1 ? 503 : 429, body: { message: "overloaded", retry_after_ms: 400 } };
  };
  await files.upload("group_a", blob(10));
  assert.equal(times.length, 3);
  assert.ok(times[1]! - times[0]! >= 395 && times[2]! - times[1]! >= 395);
  const refused = async (status: number, body: object) => {
    server.intercept = () => ({ status, body });
    const before = server.calls.length;
    await assert.rejects(files.upload("group_a", blob(10)), (error: ImError) => error.code === status);
    assert.equal(server.calls.length, before + 1);
  };
  await refused(413, { message: "a file may have 100 MiB at most" });
  await refused(429, { message: "200 uploads a day", retry_after_ms: 3_600_000 });
});

for (const size of [10, 2_500]) {
  test(`an address that has expired is replaced by another one (${size} bytes)`, async () => {
    let refusals = 0;
    server.intercept = ({ method }) =>
      method === "PUT" && refusals++ < 1 ? { status: 403, body: { message: "expired" } } : undefined;
    const { file_id } = await files.upload("group_a", blob(size));
    assert.deepEqual([file_id, server.content(file_id)], ["file-1", await blob(size).text()]);
    // The upload fails if the new address is refused too.
    server.intercept = ({ method }) => (method === "PUT" ? { status: 403 } : undefined);
    await assert.rejects(files.upload("group_a", blob(size)), (error: ImError) => error.code === 403);
  });
}

test("a file in one piece can be resumed as well", async () => {
  const abort = new AbortController();
  server.intercept = ({ method }) => {
    if (method !== "PUT") return method === "DELETE" ? "cut" : undefined;
    abort.abort();
    return "cut";
  };
  await assert.rejects(files.upload("group_a", blob(10), { signal: abort.signal }));
  await until(() => server.of("DELETE", "/api/uploads/").length > 0);
  server.intercept = undefined;
  assert.equal(server.content((await files.resume("file-1", blob(10))).file_id), await blob(10).text());
});

test("a file that cannot be read is an error at once", async () => {
  class Gone extends Blob {
    override get size(): number {
      return 10;
    }
    override slice(): Blob {
      return new Gone();
    }
    override async arrayBuffer(): Promise<ArrayBuffer> {
      throw new Error("NotReadableError");
    }
  }
  server.intercept = ({ method }) => (method === "PUT" ? "cut" : undefined);
  await assert.rejects(files.upload("group_a", new Gone()), /the file cannot be read \(Error: NotReadableError\)/);
});

test("wrong answers: bytes that the server does not have are sent again, refused contents are an error", async () => {
  let forgets = 1;
  server.intercept = ({ path }) => {
    if (!path.endsWith("/complete") || forgets-- <= 0) return undefined;
    const { parts } = server.uploads.get(path.split("/")[3]!)!;
    parts.delete([...parts.keys()].at(-1)!);
    return undefined;
  };
  assert.equal(server.content((await files.upload("group_a", blob(10))).file_id).length, 10);
  forgets = 1;
  assert.equal(server.content((await files.upload("group_a", blob(2_500))).file_id).length, 2_500);
  for (const size of [10, 2_500]) {
    server.intercept = ({ path }) => {
      if (!path.endsWith("/complete")) return undefined;
      server.uploads.clear();
      return { status: 400, body: { message: "this is no image/png" } };
    };
    await assert.rejects(files.upload("group_a", blob(size)), /this is no image/);
  }
  server.intercept = ({ path }) => (path.endsWith("/parts") ? { body: { parts: [] } } : undefined);
  const abort = AbortSignal.timeout(300);
  await assert.rejects(files.upload("group_a", blob(2_500), { signal: abort }), { name: "TimeoutError" });
});

test("links are asked for together, once, and kept until shortly before they expire", async () => {
  const ids = Array.from({ length: 150 }, (_, n) => `f${n}`);
  server.hidden.add("f7");
  const [all, two] = await Promise.all([files.links(ids, "thumb"), files.links(["f1", "f2"], "thumb")]);
  const calls = server.of("POST", "/api/files/links");
  assert.deepEqual(
    calls.map((call) => call.json().file_ids.length),
    [100, 50],
  );
  assert.deepEqual([all.size, two.size, all.has("f7")], [149, 2, false]);
  assert.equal(two.get("f1")!.url, `${server.url}/bytes/f1?size=thumb`);
  assert.equal(files.peek("f1", "thumb"), two.get("f1")!.url);
  assert.equal(files.peek("f1"), undefined, "of another size");
  await files.links(["f1", "f2"], "thumb");
  assert.equal(calls.length, server.of("POST", "/api/files/links").length);
  files.forget("f1");
  await files.links(["f1", "f2"], "thumb");
  assert.deepEqual(server.of("POST", "/api/files/links").at(-1)!.json(), { file_ids: ["f1"], size: "thumb" });
  // One that ends within the next minute is not given any more.
  server.linkMs = 59_000;
  assert.equal((await files.links(["g1"])).size, 0);
  assert.equal(files.peek("g1"), undefined);
});

test("a failed call for links is not kept", async () => {
  server.intercept = () => ({ status: 403, body: { message: "no" } });
  await assert.rejects(Promise.all([files.links(["f1"]), files.links(["f1", "f2"])]), /no/);
  server.intercept = undefined;
  assert.equal((await files.links(["f1", "f2"])).size, 2);
});

test("copies and avatars", async () => {
  const { file_id } = await files.upload("group_a", blob(10, "image/png"));
  assert.equal((await files.copy(file_id, "group_b")).file_id, "file-1-copy");
  assert.deepEqual(server.of("POST", "/api/files/file-1/copy")[0]!.json(), { conversation_id: "group_b" });
  assert.equal(await files.setAvatar(blob(20, "image/png")), "file-2");
  assert.equal(await files.setAvatar(null, "group_a"), null);
  assert.deepEqual(server.of("PATCH", "/api/users/me")[0]!.json(), { avatar: "file-2" });
  assert.deepEqual(server.of("PATCH", "/api/groups/group_a")[0]!.json(), { avatar: null });
});

test("the type of a message with files", () => {
  const [picture, text] = [{ content_type: "image/webp" }, { content_type: "text/plain" }];
  assert.deepEqual([fileMessageType([picture, picture]), fileMessageType([picture, text])], [2, 7]);
  assert.equal(fileMessageType([{ content_type: "image/svg+xml" }]), 7);
});

async function until(done: () => boolean): Promise<void> {
  const end = Date.now() + 5_000;
  while (!done()) {
    assert.ok(Date.now() < end, "not within 5 s");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

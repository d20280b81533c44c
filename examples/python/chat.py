"""A client in Python: reads one conversation and sends what is given. Needs the package `websockets`.

    python3 chat.py ws://localhost:8081/ws alice group_lobby "Hello" "Anyone here?"

Ends when its own messages have come back; without messages it reads until Ctrl-C.
"""
import asyncio, json, random, sys, uuid
import websockets

STOP = {1002, 1007, 4400, 4401, 4403, 4409, 4429}  # closed with one of these: reconnecting is of no use
RETRY = {429, 500, 503}  # refused with one of these: send it again, with the same msg_id


class Chat:
    def __init__(self, url, user, conversation, texts):
        self.url = f"{url}?user_id={user}&device_id=example-{uuid.uuid4().hex[:8]}"
        self.about = {"conversation_id": conversation}
        self.unsent = [{"cmd": 2, "msg_id": uuid.uuid4().hex, **self.about, "payload": {"content": t}} for t in texts]
        self.unseen = {message["msg_id"] for message in self.unsent}
        self.cursor = 0  # a program that is started again keeps this on disk
        self.once = bool(texts)

    async def run(self):
        delay = 0.5
        while not (self.once and not self.unseen):
            try:
                async with websockets.connect(self.url) as self.socket:
                    delay = 0.5
                    await self.pull()  # what was missed
                    await self.send()
                    while not (self.once and not self.unseen):
                        try:
                            await self.receive(json.loads(await asyncio.wait_for(self.socket.recv(), 30)))
                        except asyncio.TimeoutError:
                            await self.pull()  # after a silence: a push may have been lost
            except (OSError, websockets.WebSocketException) as error:
                if getattr(getattr(error, "rcvd", None), "code", None) in STOP:
                    sys.exit(f"closed: {error}")
                await asyncio.sleep(delay * random.uniform(0.5, 1))
                delay = min(2 * delay, 30)

    async def pull(self):
        await self.socket.send(json.dumps({"cmd": 3, **self.about, "cursor_seq": self.cursor}))

    async def send(self):  # one at a time, so that retries keep the order
        if self.unsent:
            await self.socket.send(json.dumps(self.unsent[0]))

    async def receive(self, frame):
        cmd, code, payload = frame["cmd"], frame["code"], frame.get("payload")
        if cmd == 2 and self.unsent and frame.get("msg_id") == self.unsent[0]["msg_id"]:
            if code in RETRY:
                await asyncio.sleep(payload["retry_after_ms"] / 1000 if isinstance(payload, dict) else 1)
            else:
                sent = self.unsent.pop(0)
                if code != 0:
                    print(f"refused with {code}: {payload}")
                    self.unseen.discard(sent["msg_id"])
                await self.pull()  # own messages are not pushed
            await self.send()
        elif cmd == 3 and code == 0:
            self.show(payload, frame["next_cursor_seq"])
            if frame["has_more"] or (self.unseen and not self.unsent):
                await asyncio.sleep(0 if frame["has_more"] else 0.2)
                await self.pull()
        elif cmd == 3 and code in RETRY:
            await asyncio.sleep(payload["retry_after_ms"] / 1000 if isinstance(payload, dict) else 1)
            await self.pull()
        elif cmd == 5 and frame["conversation_id"] == self.about["conversation_id"]:
            seqs = [message["seq"] for message in payload]
            if seqs == list(range(self.cursor + 1, self.cursor + 1 + len(seqs))):
                self.show(payload, seqs[-1])
            elif seqs[-1] > self.cursor:
                await self.pull()  # a gap
        elif cmd == 7 and payload["type"] == "resync":
            await self.pull()
        elif code != 0 and cmd != 2:
            sys.exit(f"refused with {code}: {payload}")

    def show(self, messages, cursor):
        for message in messages:
            if message["seq"] > self.cursor and message["content"]:
                print(f"{message['sender_id']}: {message['content']}", flush=True)
            self.unseen.discard(message["msg_id"])
        self.cursor = max(self.cursor, cursor)


asyncio.run(Chat(*sys.argv[1:4], sys.argv[4:]).run())

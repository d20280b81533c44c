"""A client in Python: reads a conversation, and sends what is given until it has come back. Needs `websockets`.

    python3 chat.py ws://localhost:8081/ws alice group_lobby "Hello" "Anyone here?"
"""
import asyncio, json, random, re, sys, urllib.parse, uuid, websockets

url, user, conversation, *texts = sys.argv[1:]
unsent = [{"msg_id": uuid.uuid4().hex, "payload": {"content": text, "ack": "stored"}} for text in texts]
unseen = {message["msg_id"] for message in unsent}  # own messages that have not come back
cursor = 0  # a program that is started again keeps this on disk


async def ask(socket, cmd):  # 2: send the next message, one at a time, so that retries keep the order; 3: pull
    details = {"cursor_seq": cursor} if cmd == 3 else unsent[0] if unsent else None
    if details:
        await socket.send(json.dumps({"cmd": cmd, "conversation_id": conversation, **details}))


async def receive(socket, cmd, code, payload=None, msg_id=None, conversation_id=None, next_cursor_seq=0, **more):
    global cursor
    if code in (429, 500, 503):  # the same again, with the same msg_id
        await asyncio.sleep(payload["retry_after_ms"] / 1000 if isinstance(payload, dict) else 1)
        await ask(socket, cmd)
    elif cmd == 2:
        unsent[:] = [message for message in unsent if message["msg_id"] != msg_id]
        if code:  # also as a second answer, after the message was accepted
            print(f"refused with {code}: {payload}")
            unseen.discard(msg_id)
        await asyncio.gather(ask(socket, 3), ask(socket, 2))  # own messages are not pushed: pull them
    elif code:
        sys.exit(f"refused with {code}: {payload}")
    elif cmd == 3 or (cmd == 5 and conversation_id == conversation):
        news = [message for message in payload if message["seq"] > cursor]
        gap = cmd == 5 and any(message["seq"] != cursor + n for n, message in enumerate(news, 1))
        for message in [] if gap else news:
            print(f"{message['sender_id']}: {message['content']}", flush=True)
            unseen.discard(message["msg_id"])
        cursor = cursor if gap else max(cursor, next_cursor_seq)
        if gap or more.get("has_more"):
            await ask(socket, 3)
    elif cmd == 7 and payload["type"] == "resync":
        await ask(socket, 3)


async def main(delay=0.5):
    while unseen or not texts:
        try:
            async with websockets.connect(f"{url}?user_id={urllib.parse.quote(user, safe='')}") as socket:
                await asyncio.gather(ask(socket, 3), ask(socket, 2))  # what was missed, and what waits
                while unseen or not texts:
                    frame = asyncio.create_task(socket.recv())
                    while not (await asyncio.wait([frame], timeout=30))[0]:
                        await ask(socket, 3)  # a silence: the last push may have been lost
                    await receive(socket, **json.loads(frame.result()))
                    delay = 0.5
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
            closed = getattr(error, "rcvd", None)
            if closed and closed.code in (1002, 1007, 4400, 4401, 4403, 4409, 4429):
                sys.exit(f"closed for good: {error}")
            after = re.search(r"retry_after_ms=(\d+)", closed.reason if closed else "")
            await asyncio.sleep((int(after[1]) / 1000 if after else delay) * random.uniform(1, 1.5))
            delay = min(2 * delay, 30)


asyncio.run(main())

"""An echo bot in Python, without packages. It answers each text of others in the conversations of its user, once each,
whichever process is killed. Give it the addresses of one or more gateways, and a file that it may replace:

    IM_TOKEN=<the bot's token> python3 echo_bot.py http://localhost:8081 cursor.txt
"""
import hashlib, http.client, itertools, json, os, sys, time, urllib.error, urllib.parse, urllib.request

*gateways, cursor_file = sys.argv[1:]
gateways = itertools.cycle(gateways)
gateway = next(gateways)


def call(method, path, body=None):  # until there is an answer: a retry has the same msg_id, so it sends nothing twice
    global gateway
    while True:
        headers = {"Authorization": "Bearer " + os.environ["IM_TOKEN"]}
        request = urllib.request.Request(gateway + path, body and json.dumps(body).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=40) as response:
                return 200, json.load(response)
        except urllib.error.HTTPError as refused:
            if refused.code not in (429, 500, 502, 503, 504):
                return refused.code, json.load(refused)
            time.sleep(float(refused.headers.get("Retry-After", 1)))
        except (OSError, ValueError, http.client.HTTPException):  # the gateway died, perhaps in the middle
            time.sleep(0.3)
        gateway = next(gateways)


def store(cursor):  # whole or not at all
    with open(cursor_file + ".new", "w") as file:
        file.write(cursor)
        file.flush()
        os.fsync(file.fileno())
    os.replace(cursor_file + ".new", cursor_file)
    return cursor


def answer(place, message):
    is_text = message["msg_type"] == 1 and not message.get("recalled")
    if is_text and message["sender_id"] != me and not message["msg_id"].startswith("echo-"):
        name = f"{place} {message['seq']}"  # the same each time that this event is handled
        reply = {"msg_id": "echo-" + hashlib.sha256(name.encode()).hexdigest()[:32],
                 "payload": {"content": f"echo: {message['content']}", "ack": "stored"}}
        code, why = call("POST", f"/api/conversations/{urllib.parse.quote(place, safe='')}/messages", reply)
        print(place, message["seq"], code, why.get("message", ""), flush=True)


code, profile = call("GET", "/api/users/me")
me = profile["user_id"] if code == 200 else sys.exit(profile["message"])
cursor = open(cursor_file).read() if os.path.exists(cursor_file) else "latest"
while True:
    code, page = call("GET", f"/api/feed?cursor={cursor}&wait_s=20")
    if code not in (200, 410):
        sys.exit(f"{code}: {page['message']}")
    for event in page.get("events", []):
        if event["type"] == "message":
            answer(event["conversation_id"], event["message"])
        cursor = store(event["cursor"])  # after the answer
    cursor = store(page["next_cursor"])  # 410: what was between is removed

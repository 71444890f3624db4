"""A conversation by the `websockets` package, as the bot of a Python programmer would hold it."""

import asyncio
import json
import sys
import uuid

import websockets


async def main(address: str) -> None:
    user = str(uuid.uuid4())
    async with websockets.connect(f"ws://{address}/v1/ws?user_id={user}") as socket:

        async def receive(expected: str) -> dict:
            frame = json.loads(await socket.recv())
            assert frame["type"] == expected, frame
            return frame

        started = await receive("session.started")
        assert started["user_id"] == user and not started["resumed"], started
        turns = [("user", "What is on today?"), ("assistant", "Tea at four \u2615."), ("user", "Thanks!")]
        for ref, (role, content) in enumerate(turns):
            await socket.send(json.dumps({"type": "message", "role": role, "content": content, "ref": ref}))
        refs = []
        while len(refs) < len(turns):
            refs += [ack["ref"] for ack in (await receive("ack"))["acks"]]
        assert refs == [0, 1, 2], refs
        await (await socket.ping())
        await socket.send(json.dumps({"type": "session.end", "reason": "completed"}))
        ended = await receive("session.ended")
        assert ended["message_count"] == 3, ended
    print(started["session_id"])


asyncio.run(main(sys.argv[1]))

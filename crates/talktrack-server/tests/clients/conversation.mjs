// A conversation over the WebSocket built into Node, which has the API of browsers and cannot send headers.
import assert from "node:assert/strict";

const [address, token] = process.argv.slice(2);
const user = crypto.randomUUID();
const protocols = token ? ["talktrack", `bearer.${token}`] : [];
const query = token ? "" : `?user_id=${user}`;
const socket = new WebSocket(`ws://${address}/v1/ws${query}`, protocols);

const frames = [];
let wake = () => {};
socket.onmessage = ({ data }) => { frames.push(JSON.parse(data)); wake(); };
socket.onerror = ({ message }) => { console.error(message ?? "the socket failed"); process.exit(1); };

async function receive(type) {
  while (frames.length === 0) await new Promise((resolve) => { wake = resolve; });
  const frame = frames.shift();
  assert.equal(frame.type, type, JSON.stringify(frame));
  return frame;
}

const started = await receive("session.started");
if (!token) assert.equal(started.user_id, user);
if (token) assert.equal(socket.protocol, "talktrack");
const turns = [["user", "What is on today?"], ["assistant", "Tea at four ☕."], ["user", "Thanks!"]];
for (const [ref, [role, content]] of turns.entries()) {
  socket.send(JSON.stringify({ type: "message", role, content, ref }));
}
const refs = [];
while (refs.length < turns.length) refs.push(...(await receive("ack")).acks.map((ack) => ack.ref));
assert.deepEqual(refs, [0, 1, 2]);
socket.send(JSON.stringify({ type: "session.end", reason: "completed" }));
assert.equal((await receive("session.ended")).message_count, 3);
socket.close();
console.log(started.session_id);

// A connection that loses no message: each message is kept until it is acknowledged, and sent again under the same id
// if the connection was lost.
"use strict";

talktrack.uuid = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
};

talktrack.Line = class {
  #waiting = new Map(); // by `ref`: { frame, since, answer }
  #tries = 0;
  #closed = false;

  // Calls `tell(state, why)` with "open", "gone" (the connection is retried) or "closed". A user's token cannot choose
  // the id of a new session: `name` is the page's own name for it, and the server returns the id.
  constructor(name, user, tell) {
    Object.assign(this, { name, user, tell });
    this.#connect();
  }

  get kept() { return this.#waiting.size; }

  #connect() {
    const address = new URL(`${talktrack.base}v1/ws?external_id=${this.name}&user_id=${encodeURIComponent(this.user)}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    // A WebSocket request cannot have other headers, so the token is sent as a subprotocol.
    this.socket = new WebSocket(address, talktrack.csrf ? ["talktrack", `csrf.${talktrack.csrf}`] : []);
    this.socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    this.socket.onclose = () => this.#lost();
  }

  #lost() {
    if (this.#closed) return this.tell("closed");
    this.tell("gone");
    const pause = Math.min(5000, 250 * 2 ** this.#tries) * (0.5 + Math.random());
    this.#tries += 1;
    setTimeout(() => { if (!this.#closed) this.#connect(); }, pause);
  }

  // Never waits. Calls `answer(error, ms)` when the frame is durable or refused.
  send(frame, answer) {
    const ref = frame.ref ?? talktrack.uuid();
    this.#waiting.set(ref, { frame: { ...frame, ref }, since: performance.now(), answer });
    this.#transmit(ref);
  }

  #transmit(ref) {
    const kept = this.#waiting.get(ref);
    if (kept && this.isOpen) this.socket.send(JSON.stringify(kept.frame));
  }

  get isOpen() { return this.started && this.socket.readyState === WebSocket.OPEN; }

  #take(frame) {
    if (frame.type === "session.started") {
      [this.started, this.session, this.#tries] = [true, frame.session_id, 0];
      this.tell("open");
      for (const ref of this.#waiting.keys()) this.#transmit(ref);
    } else if (frame.type === "ack") {
      for (const { ref } of frame.acks) this.#answer(ref, null);
    } else if (frame.type === "session.ended") {
      if (frame.ref) this.#answer(frame.ref, null, frame);
    } else if (frame.type === "error") {
      this.#refused(frame);
    }
  }

  #refused({ ref, code, message }) {
    if (code === "shutting_down") return; // the server closes the connection, and this page reconnects
    const isBusy = ["queue_full", "journal_full", "rate_limited"].includes(code);
    if (isBusy) {
      if (ref) setTimeout(() => this.#transmit(ref), 500 + 500 * Math.random());
    } else if (ref) {
      this.#answer(ref, message);
    } else {
      this.close();
      this.tell("closed", message);
    }
  }

  #answer(ref, error, frame) {
    const kept = this.#waiting.get(ref);
    this.#waiting.delete(ref);
    kept?.answer?.(error, performance.now() - kept.since, frame);
  }

  close() {
    this.#closed = true;
    this.socket.close();
  }
};

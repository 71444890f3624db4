// Follows a live conversation, plays recordings, and highlights the message that is being played.
"use strict";

(() => {
  const transcript = document.getElementById("transcript");
  const { session, after, until } = transcript.dataset;
  const address = `${talktrack.base}sessions/${session}`;

  // ---- The order of the server: when it was said, then when it was accepted, then the id. A cursor has these three.
  const EPOCH_2000 = 946_684_800_000_000n;
  function orderKey(cursor) {
    const [time, seq, id] = cursor.split(".");
    // Microseconds since 1970, or since 2000 after `p`. A message without a time (`r`) comes last.
    if (time === "r") return [1n << 64n, BigInt(seq), id];
    return [time.startsWith("p") ? BigInt(time.slice(1)) + EPOCH_2000 : BigInt(time), BigInt(seq), id];
  }

  function isBefore(one, other) {
    const [a, b] = [orderKey(one), orderKey(other)];
    const differs = a.findIndex((part, index) => part !== b[index]);
    return differs >= 0 && a[differs] < b[differs];
  }

  // Returns the cursor of a message in an event.
  function cursorOf({ created_at, seq, id }) {
    const micros = created_at.match(/\.\d{3}(\d{3})Z$/)?.[1];
    return micros && `${BigInt(Date.parse(created_at)) * 1000n + BigInt(micros)}.${seq}.${id.replaceAll("-", "")}`;
  }

  // The page shows the messages after the cursor `after` and up to the cursor `until`. An empty cursor is no bound.
  const isOfThisPage = (cursor) => (!after || isBefore(after, cursor)) && (!until || !isBefore(until, cursor));

  function lastBefore(cursor) {
    let said = transcript.lastElementChild;
    while (said && !isBefore(said.dataset.cursor, cursor)) said = said.previousElementSibling;
    return said;
  }

  // ---- A new message appears at its place, and a later revision replaces the earlier one.
  const isAtEnd = () => scrollY + innerHeight >= document.documentElement.scrollHeight - 160;

  function show(said) {
    const old = document.getElementById(said.id);
    const { cursor } = said.dataset;
    if (!isOfThisPage(cursor) || old?.dataset.cursor === cursor && old.innerHTML === said.innerHTML) return;
    old?.remove();
    if (!old) said.classList.add("new");
    const before = lastBefore(cursor);
    if (before) before.after(said);
    else transcript.prepend(said);
    talktrack.showTimes(said);
    if (old && old === playing) light(said);
  }

  // Fetches messages after a cursor and shows them. Returns all that came, in their order.
  async function load(from, limit) {
    const part = await talktrack.part(`${address}/said?after=${from}&limit=${limit}`);
    const came = [...part.querySelectorAll(".said")];
    const cursors = came.map((said) => said.dataset.cursor);
    came.forEach(show);
    return cursors;
  }

  // Loads these messages. The messages just before each belong to the same turn, so they are requested too.
  async function loadChanged(changed) {
    for (const [id, cursor] of changed) if (!isOfThisPage(cursor)) document.getElementById(`m-${id}`)?.remove();
    let wanted = [...changed.values()].filter(isOfThisPage).sort((one, other) => (isBefore(one, other) ? -1 : 1));
    let reached = null;
    while (wanted.length) {
      let before = lastBefore(wanted[0]);
      for (let back = 0; back < 5 && before; back += 1) before = before.previousElementSibling;
      const last = (await load(before?.dataset.cursor ?? after, 50)).at(-1);
      // A message that has been deleted since does not come.
      wanted = last && last !== reached ? wanted.filter((cursor) => isBefore(last, cursor)) : wanted.slice(1);
      reached = last;
    }
  }

  // Loads the whole page again, because it is not known what has changed.
  async function loadAll() {
    let from = after;
    do {
      const came = await load(from, 1000);
      if (!came.length) return;
      from = came.at(-1);
    } while (!until || isBefore(from, until));
  }

  let changed = new Map(), isUnknown = false;
  const refresh = talktrack.gently(async () => {
    const stay = isAtEnd();
    const [now, all] = [changed, isUnknown];
    changed = new Map();
    isUnknown = false;
    try {
      await (all ? loadAll() : loadChanged(now));
    } catch (error) {
      isUnknown = true;
      setTimeout(refresh, 2000);
      throw error;
    }
    const part = await talktrack.part(`${address}/head`);
    refreshHead(part.getElementById("head"));
    if (transcript.children.length) document.getElementById("silence")?.remove();
    if (stay) scrollTo({ top: document.documentElement.scrollHeight });
  }, 150);

  // Replaces only what has changed, so that an open menu stays open and a recording keeps playing.
  function refreshHead(fresh) {
    const head = document.getElementById("head");
    if (!fresh) return;
    talktrack.showTimes(fresh);
    for (const part of [".figures", ".heading"]) {
      const [old, now] = [head.querySelector(part), fresh.querySelector(part)];
      if (old && now && old.innerHTML !== now.innerHTML) old.innerHTML = now.innerHTML;
    }
    head.toggleAttribute("data-live", fresh.hasAttribute("data-live"));
  }

  let opened = 0;
  talktrack.follow({ session_id: session, last_event_id: transcript.dataset.event }, (name, data) => {
    if (name === "session.deleted") return location.replace(location.pathname);
    const cursor = name === "message" && cursorOf(data);
    if (cursor) changed.set(data.id, cursor);
    if (name === "open") opened += 1;
    // After a pause, messages may have come over another server.
    if (name === "gap" || name === "open" && opened > 1) isUnknown = true;
    refresh();
  }, talktrack.saysFollowing);

  // The newest messages are read from their end.
  if ("newest" in transcript.dataset && !location.hash) scrollTo({ top: document.documentElement.scrollHeight });

  // ---- Recordings of a message or of the whole conversation.
  const player = document.getElementById("player");
  const audio = player.querySelector("audio");
  let playing = null;

  function light(said) {
    if (playing === said) return;
    playing?.classList.remove("playing");
    playing?.querySelector("[data-play] span")?.replaceChildren("Play");
    playing = said;
    said?.classList.add("playing");
    said?.querySelector("[data-play] span")?.replaceChildren("Pause");
  }

  transcript.addEventListener("click", (event) => {
    const play = event.target.closest("[data-play]");
    if (!play) return;
    event.preventDefault();
    const said = play.closest(".said");
    if (playing === said && !audio.paused) return audio.pause();
    document.getElementById("recording")?.pause();
    player.hidden = false;
    if (audio.getAttribute("src") !== play.getAttribute("href")) audio.src = play.getAttribute("href");
    light(said);
    audio.play().catch(() => light(null));
  });
  for (const end of ["pause", "ended", "error"]) audio.addEventListener(end, () => light(null));

  const recording = document.getElementById("recording");
  recording?.addEventListener("timeupdate", () => {
    if (recording.paused) return;
    const now = recording.currentTime * 1000;
    light([...transcript.querySelectorAll("[data-start]")].findLast((said) => +said.dataset.start <= now && now < +said.dataset.end) ?? null);
  });
  recording?.addEventListener("play", () => audio.pause());
  for (const end of ["pause", "ended"]) recording?.addEventListener(end, () => light(null));

  // ---- Copying.
  const texts = {
    link: () => location.origin + location.pathname,
    transcript: async () => (await fetch(`${talktrack.base}v1/sessions/${session}/export?format=text`)).text(),
  };
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const label = button.textContent;
      try {
        await navigator.clipboard.writeText(await texts[button.dataset.copy]());
        button.textContent = "Copied";
      } catch {
        button.textContent = "Copying failed";
      }
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }
})();

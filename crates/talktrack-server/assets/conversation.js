// Follows a live conversation, plays recordings, and highlights the message that is being played.
"use strict";

(() => {
  const transcript = document.getElementById("transcript");
  const session = transcript.dataset.session;
  const address = `/sessions/${session}`;

  // ---- New messages appear, and a later revision replaces the earlier one.
  const isAtEnd = () => scrollY + innerHeight >= document.documentElement.scrollHeight - 160;

  function show(said) {
    const old = document.getElementById(said.id);
    if (old) {
      old.replaceWith(said);
    } else {
      said.classList.add("new");
      transcript.append(said);
    }
    talktrack.showTimes(said);
  }

  // The messages just before belong to the same turn, so they are requested too.
  function placeBefore(said) {
    for (let back = 0; back < 6 && said; back += 1) said = said.previousElementSibling;
    return said?.dataset.cursor ?? "";
  }

  let changed = new Set();
  const refresh = talktrack.gently(async () => {
    const stay = isAtEnd();
    const revised = [...changed].map((id) => document.getElementById(`m-${id}`)).filter(Boolean);
    changed = new Set();
    for (const said of revised) {
      const part = await talktrack.part(`${address}/said?limit=6&after=${placeBefore(said)}`);
      const fresh = part.getElementById(said.id);
      if (fresh) show(fresh);
    }
    if ("open" in transcript.dataset) {
      const part = await talktrack.part(`${address}/said?after=${placeBefore(transcript.lastElementChild)}`);
      for (const said of [...part.querySelectorAll(".said")]) if (!document.getElementById(said.id)) show(said);
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

  talktrack.follow(`?session_id=${session}`, (name, data) => {
    if (name === "session.deleted") return location.replace(location.pathname);
    if (name === "message" && data.id) changed.add(data.id);
    refresh();
  }, talktrack.saysFollowing);

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
    transcript: async () => (await fetch(`/v1/sessions/${session}/export?format=text`)).text(),
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

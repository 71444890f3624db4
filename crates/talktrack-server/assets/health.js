// The figures follow what happens while somebody looks at them.
"use strict";

(() => {
  const figures = document.getElementById("figures");
  const news = document.getElementById("news");

  // Part by part: whoever has selected a cause to copy it keeps it.
  function show(fresh) {
    for (const part of [...fresh.body.children]) {
      const old = document.getElementById(part.id);
      if (!old) { figures.append(part); continue; }
      if (old.outerHTML === part.outerHTML) continue;
      if (part.id === "state") news.textContent = part.innerText;
      old.replaceWith(part);
    }
  }

  let looking = false;
  async function look() {
    if (looking || document.hidden) return;
    looking = true;
    try {
      show(await talktrack.part("/health/figures"));
      talktrack.saysFollowing(true);
    } catch {
      talktrack.saysFollowing(false);
    }
    looking = false;
  }
  setInterval(look, 1500);
  document.addEventListener("visibilitychange", look);
})();

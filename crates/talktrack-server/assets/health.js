// Refreshes the state of the pipeline while the page is visible.
"use strict";

(() => {
  const figures = document.getElementById("figures");
  const news = document.getElementById("news");

  // Replaces only the parts that have changed, so that a selection in another part is kept.
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
      show(await talktrack.part(`${talktrack.base}health/figures`));
      talktrack.saysFollowing(true);
    } catch {
      talktrack.saysFollowing(false);
    }
    looking = false;
  }
  setInterval(look, 1500);
  document.addEventListener("visibilitychange", look);
})();

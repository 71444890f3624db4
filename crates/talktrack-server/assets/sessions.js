// Sends the days of the filter in the reader's time zone. Keeps the list up to date: new conversations appear on top, and rows show the latest state.
"use strict";

(() => {
  // The days of the form are those of the reader: the server gets the moments at which they begin and end.
  document.querySelector("form.filters").addEventListener("formdata", ({ formData }) => {
    for (const [field, further] of [["from", 0], ["to", 1]]) {
      const [year, month, day] = formData.get(field).split("-").map(Number);
      if (day) formData.set(`${field}_at`, new Date(year, month - 1, day + further).toISOString());
    }
  });

  const list = document.getElementById("list");
  if (!list || !("live" in list.dataset)) return;

  const refresh = talktrack.gently(async () => {
    const page = await talktrack.part(location.href);
    const fresh = page.getElementById("list");
    if (!fresh) return;
    talktrack.showTimes(fresh);
    const wanted = new Set();
    let place = null;
    for (const row of [...fresh.children]) {
      wanted.add(row.id);
      const old = document.getElementById(row.id);
      if (!old) row.classList.add("new");
      if (old && old.innerHTML === row.innerHTML && old.className === row.className) {
        if (old.previousElementSibling !== place) list.insertBefore(old, place ? place.nextSibling : list.firstChild);
        place = old;
        continue;
      }
      // Keeps the keyboard focus on the same element.
      const focused = old && old.contains(document.activeElement) ? document.activeElement.className : null;
      if (old) old.replaceWith(row);
      if (!old || row.previousElementSibling !== place) list.insertBefore(row, place ? place.nextSibling : list.firstChild);
      if (focused) row.getElementsByClassName(focused)[0]?.focus();
      place = row;
    }
    for (const row of [...list.children]) if (!wanted.has(row.id)) row.remove();
    if (list.children.length) document.getElementById("empty")?.remove();
  }, 400);

  talktrack.follow({}, refresh, talktrack.saysFollowing);
})();

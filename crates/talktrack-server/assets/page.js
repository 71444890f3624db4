// What every page does with a script: times in the reader's own zone, and following what happens.
"use strict";

const talktrack = {
  // What our pages send along with whatever changes something, so that no other page can do it with our cookie.
  csrf: document.querySelector('meta[name="csrf-token"]')?.content ?? "",

  // Times as the reader's clock shows them; those of today without the day.
  showTimes(root) {
    const day = new Date().toDateString();
    for (const time of root.querySelectorAll("time[datetime]:not([data-as])")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.valueOf())) continue;
      const sameDay = moment.toDateString() === day;
      const form = sameDay ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
      time.textContent = (sameDay ? "today " : "") + new Intl.DateTimeFormat(undefined, form).format(moment);
      time.title = moment.toLocaleString();
    }
  },

  // Follows what becomes durable, while the page is seen: a browser opens few connections to one server, for all of its tabs
  // together. `tell` gets the name and the data of each event, and "open" whenever the stream begins: what came while it was away
  // is not in it.
  follow(query, tell, state) {
    const names = ["session.started", "session.updated", "session.ended", "session.deleted", "message", "gap"];
    let source = null;
    const stop = () => { source?.close(); source = null; };
    const listen = () => {
      if (source || document.hidden) return;
      source = new EventSource("/v1/events" + query);
      for (const name of names) source.addEventListener(name, (event) => tell(name, JSON.parse(event.data)));
      source.addEventListener("open", () => { state(true); tell("open", {}); });
      // The browser comes back by itself, unless it was refused.
      source.addEventListener("error", () => {
        state(false);
        if (source?.readyState !== EventSource.CLOSED) return;
        stop();
        setTimeout(listen, 5000);
      });
      // The server says goodbye: it stops, or we were too slow.
      source.addEventListener("closing", () => state(false));
    };
    document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
    addEventListener("pagehide", stop);
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    listen();
  },

  // Calls `work` soon, and not again before it is through: many events make one look.
  gently(work, pause) {
    let timer = null, running = false, again = false;
    return async function call() {
      if (timer || running) { again = true; return; }
      timer = setTimeout(async () => {
        timer = null; running = true; again = false;
        try { await work(); } catch (error) { console.debug("not now", error); }
        running = false;
        if (again) call();
      }, pause);
    };
  },

  // A part of a page, as elements.
  async part(address) {
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    if (answer.redirected) location.reload();
    if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  },

  saysFollowing(isFollowing) {
    const follows = document.getElementById("follows");
    if (follows) follows.textContent = isFollowing ? "" : "The connection is gone; trying again…";
  },
};

talktrack.showTimes(document);

// Menus close when one leaves them.
for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
  });
}

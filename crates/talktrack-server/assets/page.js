// Used by the scripts of all pages: times in the reader's time zone, and live events.
"use strict";

const talktrack = {
  // The path of this server's pages: `/`, or a prefix that a proxy has added.
  base: new URL("..", document.currentScript.src).pathname,

  // The token that the server's own pages send with every change, so that no other page can make changes with the
  // cookie.
  csrf: document.querySelector('meta[name="csrf-token"]')?.content ?? "",

  // Shows times in the reader's time zone. Times of today are shown without the date.
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

  // Follows live events while the page is visible: a browser opens only a few connections to one server for all of its
  // tabs together. Calls `tell` with the name and the data of each event, and with "open" whenever the stream opens.
  // The stream continues after the last event; without an id of one in `query`, it begins with the next event.
  follow(query, tell, state) {
    const names = ["session.started", "session.updated", "session.ended", "session.deleted", "message", "gap"];
    let source = null;
    const stop = () => { source?.close(); source = null; };
    const listen = () => {
      if (source || document.hidden) return;
      source = new EventSource(`${talktrack.base}v1/events?${new URLSearchParams(query)}`);
      for (const name of names) {
        source.addEventListener(name, (event) => {
          query.last_event_id = event.lastEventId;
          tell(name, JSON.parse(event.data));
        });
      }
      source.addEventListener("open", () => { state(true); tell("open", {}); });
      // The browser reconnects by itself, unless the request was refused.
      source.addEventListener("error", () => {
        state(false);
        if (source?.readyState !== EventSource.CLOSED) return;
        stop();
        setTimeout(listen, 5000);
      });
      // The server closes the stream: it is shutting down, or this page was too slow.
      source.addEventListener("closing", () => state(false));
    };
    document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
    addEventListener("pagehide", stop);
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    listen();
  },

  // Calls `work` after a pause, and not again until it is done: many events cause one refresh.
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

  // Fetches a part of a page as a document.
  async part(address) {
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    if (answer.redirected) location.reload();
    if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  },

  saysFollowing(isFollowing) {
    const follows = document.getElementById("follows");
    if (follows) follows.textContent = isFollowing ? "" : "The connection is lost; reconnecting…";
  },
};

talktrack.showTimes(document);

// Menus close on a click elsewhere or on Escape.
for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
  });
}

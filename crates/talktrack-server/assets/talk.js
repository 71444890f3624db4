// A conversation with an echo agent. Speech is sent while it is spoken, and what was heard of the answer too. Each
// message shows when it became durable.
"use strict";

(() => {
  const at = (id) => document.getElementById(id);
  const talk = at("talk");
  const GREETING = " I am an echo. Interrupt me whenever you like.";
  let line = null, microphone = null, recognition = null, mouth = null, lastAloud = null, hasVoice = false, answers = 0;

  // ---- The user of the conversation.
  function ownUser() {
    try {
      const known = localStorage.getItem("talktrack.user") ?? talktrack.uuid();
      localStorage.setItem("talktrack.user", known);
      return known;
    } catch {
      return talktrack.uuid(); // private windows may not allow storage
    }
  }
  const user = talk.dataset.user || ownUser();
  at("user").href = `${talktrack.base}?user=${encodeURIComponent(user)}`;
  at("user").firstElementChild.textContent = user;
  for (const place of document.querySelectorAll("[data-user-id]")) place.textContent = encodeURIComponent(user);

  // ---- Messages are shown, sent, and sent again as a later revision when there is more of them.
  class Said {
    constructor(role) {
      Object.assign(this, { id: talktrack.uuid(), role, created_at: new Date().toISOString(), revision: -1, line, fields: {} });
      this.element = document.createElement("li");
      this.element.className = `said ${role === "user" ? "user" : "agent"}`;
      this.element.id = `m-${this.id}`;
      const by = document.createElement("p");
      by.className = "by";
      const who = document.createElement("b");
      who.textContent = role === "user" ? "You" : "Echo";
      this.ack = document.createElement("span");
      this.ack.className = "ack";
      by.append(who, " ", this.ack);
      this.words = document.createElement("p");
      this.words.className = "words";
      this.words.dir = "auto";
      this.element.append(by, this.words);
      at("transcript").append(this.element);
    }

    // Sends these fields as a new revision.
    is(fields) {
      Object.assign(this.fields, fields);
      this.revision += 1;
      const { id, role, created_at, revision } = this;
      this.element.setAttribute("aria-busy", "true"); // until this revision is durable
      const { content, content_generated } = this.fields;
      this.words.textContent = content;
      if (content_generated) {
        const rest = document.createElement("del");
        rest.textContent = content_generated.slice(content.length);
        this.words.append(rest);
      }
      this.element.scrollIntoView({ block: "nearest" });
      this.line.send({ type: "message", id, role, created_at, revision, ref: `${id}.${revision}`, ...this.fields }, (error, ms) => {
        if (revision === this.revision) {
          this.ack.textContent = error ? `refused: ${error}` : `durable after ${told(ms)}`;
          this.element.removeAttribute("aria-busy");
        }
        this.ack.classList.toggle("trouble", !!error);
        tellState();
      });
      if (!this.ack.textContent) this.ack.textContent = "not durable yet";
      tellState();
    }
  }
  const told = (ms) => (ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

  // ---- The connection.
  let connection = "none";
  function tellState(state = connection, why) {
    connection = state;
    const kept = line?.kept ?? 0;
    const keeping = `${kept} ${kept === 1 ? "message is" : "messages are"} kept and will be sent again`;
    const words = {
      none: "not connected",
      connecting: "connecting",
      open: "connected",
      gone: `the connection is lost; reconnecting${kept ? `, ${keeping}` : ""}`,
      closed: why ? `ended: ${why}` : "ended",
    }[state];
    if (at("state").textContent !== words) at("state").textContent = words;
    at("state").className = `chip${state === "open" ? " live" : state === "gone" || why ? " warn" : ""}`;
  }

  // Enables or disables the choices that cannot change during a conversation. Interrupting by voice can be switched at
  // any time.
  function mayChoose(may) {
    for (const choice of ["with-microphone", "with-recognition", "with-voice"]) at(choice).disabled = !may;
  }

  async function start() {
    if (line) return;
    at("start").hidden = true;
    mayChoose(false);
    at("end").hidden = false;
    at("transcript").replaceChildren();
    answers = 0;
    const session = talktrack.uuid();
    tellState("connecting");
    const own = line = new talktrack.Line(session, user, (state, why) => {
      if (line === own) { tellState(state, why); if (why) stop(); }
    });
    at("recorded").href = `${talktrack.base}sessions/external:${session}`;
    at("recorded").hidden = false;
    at("words").focus();
    hasVoice = at("with-voice").checked && await talktrack.Mouth.hasVoice();
    await openEars(own);
  }

  // ---- Speech input.
  async function openEars(own) {
    if (!at("with-microphone").checked) return tellEars("Type your messages.");
    try {
      const opened = await talktrack.Microphone.open(voiceIsHeard);
      if (line !== own) return opened.close();
      microphone = opened;
    } catch (error) {
      const why = { NotAllowedError: "The microphone was refused", NotFoundError: "There is no microphone" }[error.name];
      return tellEars(`${why ?? error.message}. Type your messages instead.`);
    }
    if (!at("with-recognition").checked || !talktrack.Recognition.isThere) return onlyRecords("This browser does not transcribe speech");
    recognition = new talktrack.Recognition(understood, (error) => {
      recognition = null;
      if (draft) understood(draft.fields.content, true, {});
      onlyRecords(`The browser's speech recognition does not work (${error})`);
    });
    tellEars("Speak. What you say is recorded and transcribed.");
  }
  const onlyRecords = (why) => tellEars(`${why}: speak, and type what you said. Your voice is recorded with it.`);
  const tellEars = (words) => { at("ears").textContent = words; };

  // Called when the microphone picks up a sound. It may also pick up an agent that speaks aloud, which is then
  // interrupted only by other words than its own.
  function voiceIsHeard() {
    if (at("with-cutting").checked && mouth && !mouth.isAloud && !recognition) cutIn();
  }

  let draft = null;
  const uploads = new Set();
  function understood(text, isFinal, { confidence, silentSince }) {
    if (!line || (!draft && isOwnEcho(text))) return;
    if (mouth && at("with-cutting").checked) cutIn();
    draft ??= new Said("user");
    if (!isFinal) {
      if (draft.fields.content !== text) draft.is({ content: text });
      return;
    }
    const said = draft;
    draft = null;
    const metrics = { language: navigator.language };
    if (confidence > 0) metrics.confidence = Math.round(confidence * 1000) / 1000;
    if (silentSince) metrics.stt_ms = Math.round(performance.now() - silentSince);
    hear(said, text, metrics, silentSince);
  }

  const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  // True if the text is the agent's own speech: the loudspeaker is near the microphone, and recognition is delayed.
  // Some words may be misrecognised, so 60 % of them suffice.
  function isOwnEcho(text) {
    const spoken = mouth?.isAloud ? mouth : lastAloud;
    const words = wordsOf(text);
    if (!spoken || (spoken !== mouth && (performance.now() - spoken.until > 2000 || words.length < 2))) return false;
    const own = new Set(wordsOf(spoken.text));
    return words.filter((word) => own.has(word)).length >= words.length * 0.6;
  }

  // Handles a complete message of the user.
  function hear(said, content, metrics, silentSince) {
    cutIn();
    said.is(metrics ? { content, metrics } : { content });
    const kept = keepRecording(said).finally(() => uploads.delete(kept));
    uploads.add(kept);
    answer(content, silentSince);
  }

  async function keepRecording(said) {
    const recording = await microphone?.turn();
    if (!recording) return;
    try {
      const audio_url = await upload(said.line.session, recording);
      said.is({ audio_url });
      const play = document.createElement("a");
      play.className = "play";
      play.href = audio_url;
      play.target = "_blank";
      play.textContent = "recording";
      said.ack.after(" ", play);
    } catch (error) {
      said.ack.after(` the recording was not stored: ${error.message}`);
    }
  }

  async function upload(session, recording) {
    for (let attempt = 1; ; attempt += 1) {
      const request = { method: "POST", body: recording, headers: { "content-type": recording.type, "x-csrf-token": talktrack.csrf } };
      const answer = await fetch(`${talktrack.base}v1/sessions/${session}/audio`, request).catch(() => null);
      if (answer?.ok) return (await answer.json()).audio_url;
      const isPassing = !answer || answer.status === 429 || answer.status >= 500;
      if (!isPassing || attempt === 10) throw new Error(answer ? (await answer.json()).detail : "the server cannot be reached");
      await new Promise((resolve) => setTimeout(resolve, 500 * attempt));
    }
  }

  // ---- The agent: an echo.
  function answer(words, silentSince) {
    const text = `You said: ${words}${answers === 0 ? `${/[.!?…]$/.test(words) ? "" : "."}${GREETING}` : ""}`;
    answers += 1;
    const said = new Said("assistant");
    const asked = performance.now();
    const metrics = {};
    let began = null, lastSent = 0;
    at("cut").hidden = false;
    mouth = new talktrack.Mouth(text, hasVoice, {
      started() {
        began = performance.now();
        if (!hasVoice) return;
        metrics.tts_ttfb_ms = Math.round(began - asked);
        // Known only if the end of the user's speech was detected.
        if (silentSince) metrics.e2e_ms = Math.round(began - silentSince);
      },
      heard(content) {
        said.words.textContent = content;
        if (performance.now() - lastSent < 200) return;
        lastSent = performance.now();
        said.is({ content });
      },
      ended(isThrough) {
        const isWhole = isThrough || own.heard >= text.length;
        const wasAloud = own.isAloud;
        const more = wasAloud && began ? { metrics: { ...metrics, heard_ms: Math.round(performance.now() - began) } } : {};
        const heard = text.slice(0, own.heard).trimEnd();
        said.is(isWhole ? { content: text, ...more } : { content: heard, interrupted: true, content_generated: text, ...more });
        if (!isWhole) said.ack.after(" you interrupted it");
        if (wasAloud) lastAloud = { text, until: performance.now() };
        else at("news").textContent = `Echo: ${isWhole ? text : heard}`;
        if (mouth === own) { mouth = null; at("cut").hidden = true; }
      },
    });
    const own = mouth;
  }

  function cutIn() {
    mouth?.cut();
  }

  // ---- The end.
  function stop() {
    recognition?.close();
    microphone?.close();
    [line, microphone, recognition, draft] = [null, null, null, null];
    at("end").hidden = true;
    at("start").hidden = false;
    at("start").textContent = "Start again";
    mayChoose(true);
    tellEars("");
  }

  async function end() {
    cutIn();
    const ending = line;
    at("end").hidden = true;
    // The recordings belong to the conversation, so the end waits up to 5 seconds for their uploads.
    await Promise.race([Promise.allSettled(uploads), new Promise((resolve) => setTimeout(resolve, 5000))]);
    ending.send({ type: "session.end", reason: "completed" }, () => {
      ending.close();
      tellState("closed");
      stop();
      at("start").focus();
    });
  }

  at("start").disabled = false;
  at("start").addEventListener("click", start);
  at("end").addEventListener("click", end);
  at("cut").addEventListener("click", () => { cutIn(); at("words").focus(); });
  at("words").addEventListener("input", () => { if (at("words").value.trim()) cutIn(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") cutIn(); });
  at("say").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = at("words").value.trim();
    if (!words) return;
    at("words").value = "";
    if (!line) start();
    hear(new Said("user"), words);
  });
})();

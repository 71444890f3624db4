// Speech input and output with what the browser supports: microphone, speech recognition and speech synthesis.
"use strict";

// The microphone. Records each turn, and reports sounds.
talktrack.Microphone = class {
  static #forms = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];
  // Speech is detected if the level exceeds LOUD in LOOKS samples, taken every 50 ms. Each quieter sample in between
  // subtracts FORGET from the count.
  static #LOUD = 0.03;
  static #LOOKS = 3;
  static #FORGET = 0.1;
  // No utterance is shorter than this.
  static #SHORTEST_MS = 300;
  // A recording without any sound for this long is restarted.
  static #SILENCE_MS = 30000;

  static async open(speaks) {
    if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
      throw new Error("This browser gives this page no access to a microphone; over HTTPS or on localhost, most browsers do");
    }
    const microphone = new talktrack.Microphone();
    microphone.speaks = speaks;
    microphone.stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
    microphone.#listen();
    microphone.#begin();
    return microphone;
  }

  #listen() {
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    this.context.createMediaStreamSource(this.stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let loud = 0;
    this.looking = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      const isLoud = level > talktrack.Microphone.#LOUD;
      loud = isLoud ? loud + 1 : Math.max(0, loud - talktrack.Microphone.#FORGET);
      if (isLoud) this.hasSound = true;
      if (loud >= talktrack.Microphone.#LOOKS) {
        loud = 0;
        this.speaks();
      }
      if (!this.hasSound && performance.now() - this.began > talktrack.Microphone.#SILENCE_MS) this.turn();
    }, 50);
  }

  #begin() {
    const mimeType = talktrack.Microphone.#forms.find((form) => MediaRecorder.isTypeSupported(form));
    const recorder = new MediaRecorder(this.stream, { mimeType, audioBitsPerSecond: 32000 });
    const pieces = [];
    [this.recorder, this.hasSound, this.began] = [recorder, false, performance.now()];
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    this.recording = new Promise((resolve) => {
      recorder.onstop = () => resolve(new Blob(pieces, { type: recorder.mimeType }));
    });
    recorder.start();
  }

  // Ends the recording of this turn and begins the next one. Returns `null` if it contains no sound.
  async turn() {
    const { recorder, recording } = this;
    const isWorthIt = this.hasSound && performance.now() - this.began > talktrack.Microphone.#SHORTEST_MS;
    if (recorder.state === "inactive") return null;
    recorder.stop();
    if (this.stream.active) this.#begin();
    return isWorthIt ? recording : null;
  }

  close() {
    clearInterval(this.looking);
    if (this.recorder.state !== "inactive") this.recorder.stop();
    for (const track of this.stream.getTracks()) track.stop();
    this.context.close();
  }
};

// Speech recognition. Calls `hear(text, isFinal, more)` with what was recognised, and `fail(why)` if recognition does
// not work.
talktrack.Recognition = class {
  static get isThere() { return !!(window.SpeechRecognition ?? window.webkitSpeechRecognition); }

  constructor(hear, fail) {
    const Recognition = window.SpeechRecognition ?? window.webkitSpeechRecognition;
    const recognition = this.recognition = new Recognition();
    Object.assign(recognition, { continuous: true, interimResults: true, lang: navigator.language });
    recognition.onspeechstart = () => { this.silentSince = null; };
    recognition.onspeechend = () => { this.silentSince = performance.now(); };
    recognition.onresult = ({ results, resultIndex }) => {
      // A result that is not final may come in several pieces.
      let sofar = "";
      for (const result of [...results].slice(resultIndex)) {
        const { transcript, confidence } = result[0];
        if (!result.isFinal) { sofar += transcript; continue; }
        if (transcript.trim()) hear(transcript.trim(), true, { confidence, silentSince: this.silentSince });
        this.silentSince = null;
      }
      if (sofar.trim()) hear(sofar.trim(), false, {});
    };
    recognition.onerror = ({ error }) => {
      if (error === "no-speech" || error === "aborted") return;
      this.closed = true;
      fail(error);
    };
    // Browsers end the recognition after a while.
    recognition.onend = () => { if (!this.closed) setTimeout(() => this.#start(), 200); };
    this.#start();
  }

  #start() {
    if (this.closed) return;
    try { this.recognition.start(); } catch { /* it is already running */ }
  }

  close() {
    this.closed = true;
    this.recognition.abort();
  }
};

// The agent's text, spoken aloud or shown word by word if there is no voice. Calls `tell.started()`, `tell.heard(text)`
// with the text so far, and `tell.ended(isThrough)`.
talktrack.Mouth = class {
  static #MS_A_WORD = 220;
  // If speech has not started by then, the text is shown instead.
  static #PATIENCE_MS = 3000;

  constructor(text, aloud, tell) {
    Object.assign(this, { text, tell, heard: 0, isAloud: false, over: false });
    if (aloud) this.#speak(); else this.#show();
  }

  // True if the browser has a voice. Some browsers load their voices late.
  static async hasVoice() {
    if (!window.speechSynthesis) return false;
    for (let look = 0; look < 10 && !speechSynthesis.getVoices().length; look += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return speechSynthesis.getVoices().length > 0;
  }

  #speak() {
    const utterance = this.utterance = new SpeechSynthesisUtterance(this.text);
    utterance.lang = navigator.language;
    const late = setTimeout(() => this.#giveUp(), talktrack.Mouth.#PATIENCE_MS);
    utterance.onstart = () => {
      clearTimeout(late);
      if (this.over || this.isShown) return;
      [this.isAloud, this.since] = [true, performance.now()];
      this.tell.started();
    };
    utterance.onboundary = ({ name, charIndex }) => {
      if (name === "sentence" || this.over) return;
      this.hasBoundaries = true;
      this.#hear(charIndex);
    };
    utterance.onend = () => { clearTimeout(late); if (this.isAloud) this.#end(); };
    utterance.onerror = () => { clearTimeout(late); this.#giveUp(); };
    speechSynthesis.speak(utterance);
    // For voices that report no words, a typical speed is assumed.
    this.timer = setInterval(() => {
      if (this.isAloud && !this.hasBoundaries) this.#hear(this.#upToWord((performance.now() - this.since) / 1000 * 14));
    }, 250);
  }

  // Falls back to showing the text.
  #giveUp() {
    if (this.over || this.isShown) return;
    clearInterval(this.timer);
    speechSynthesis.cancel();
    this.#show();
  }

  #show() {
    this.isShown = true;
    if (!this.isAloud) this.tell.started();
    this.isAloud = false;
    this.timer = setInterval(() => {
      if (this.heard >= this.text.length) return this.#end();
      const word = this.text.slice(this.heard).match(/^\s*\S+/);
      this.#hear(word ? this.heard + word[0].length : this.text.length);
    }, talktrack.Mouth.#MS_A_WORD);
  }

  #upToWord(characters) {
    const space = this.text.slice(0, Math.max(0, Math.floor(characters))).lastIndexOf(" ");
    return Math.max(0, space);
  }

  #hear(characters) {
    if (characters <= this.heard || this.over) return;
    this.heard = Math.min(characters, this.text.length);
    this.tell.heard(this.text.slice(0, this.heard).trimEnd());
  }

  #end() {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    this.tell.ended(true);
  }

  // Interrupts the speech.
  cut() {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    window.speechSynthesis?.cancel();
    this.tell.ended(false);
  }
};

"use strict";
// The clip's player, on the server's clock: pictures are stepped by the times that were measured, a place that was
// sought is what it was sought as, and a loop goes round an event. Mute and hide are for one sense alone.

const player = (() => {
  const $ = (id) => document.getElementById(id);
  const video = $("video");
  const AROUND = 0.7; // seconds before and after an event that the loop plays
  const on = { trouble: () => {}, say: () => {} };
  let facts = null, around = null, frame = 0;
  let held = 0; // where a seek went: the browser's own answer comes later, and rounded

  function load(found, address) {
    facts = found; held = 0; around = null;
    video.src = address;
    speed();
    tick();
  }
  function clear() {
    halt();
    facts = null; held = 0;
    video.removeAttribute("src"); video.load();
  }
  const length = () => (facts ? facts.duration : 0);
  const now = () => (video.paused || video.seeking ? held : Math.min(length(), video.currentTime));

  function seek(t) {
    if (!facts) return;
    held = Math.min(facts.duration, Math.max(0, t));
    const i = lanes.frameAt(held);
    // A little inside the picture: on its very edge a player may show the one before.
    const edge = facts.times.length && Math.abs(held - facts.times[i]) < 2e-3;
    video.currentTime = edge ? facts.times[i] + Math.min(0.01, 0.4 * lanes.gap(i)) : held;
    tick();
  }

  function step(by) {
    if (!facts) return;
    halt();
    const times = facts.times;
    if (times.length) seek(times[Math.min(times.length - 1, Math.max(0, lanes.frameAt(now()) + by))]);
    else seek(now() + by * 0.04);
  }

  function halt() {
    if (!video.paused) { held = Math.min(length(), video.currentTime); video.pause(); }
    around = null;
  }

  function play() {
    if (!facts) return;
    if (!video.paused) { halt(); tick(); return; }
    if (held >= facts.duration - 0.05) seek(0);
    video.play().catch(() => on.say("The browser would not play this clip."));
  }

  function loop(t) {
    if (!facts) return;
    if (around !== null) { halt(); tick(); return; }
    halt(); seek(t - AROUND); around = t;
    video.play().catch(() => {});
  }
  const round = () => { video.currentTime = held = Math.max(0, around - AROUND); };

  const pressed = (id) => $(id).getAttribute("aria-pressed") === "true";
  function speed() { video.playbackRate = video.defaultPlaybackRate = pressed("slow") ? 0.5 : 1; }
  function toggle(id) {
    const whether = !pressed(id);
    $(id).setAttribute("aria-pressed", String(whether));
    if (id === "slow") speed();
    if (id === "mute") video.muted = whether;
    if (id === "hide") { $("veil").hidden = !whether; lanes.veil(whether); }
  }

  function tick() {
    const t = now(), playing = !video.paused && !video.ended;
    const small = document.createElement("small");
    const pictures = facts ? facts.times.length : 0;
    small.textContent = pictures ? ` · picture ${lanes.frameAt(t) + 1} of ${pictures}` : "";
    $("time").replaceChildren(`${t.toFixed(3)} s`, small);
    lanes.follow(t);
    $("play").classList.toggle("on", playing);
    $("play").querySelector(".label").textContent = playing ? "Pause" : "Play";
    if (playing && around !== null && (t > around + AROUND || t < around - AROUND - 0.3)) round();
    cancelAnimationFrame(frame);
    if (playing) frame = requestAnimationFrame(tick);
  }
  for (const happens of ["play", "pause", "seeked", "loadedmetadata"]) video.addEventListener(happens, tick);
  video.addEventListener("ended", () => {
    if (around !== null) { round(); video.play().catch(() => {}); return; }
    held = length(); tick();
  });
  video.addEventListener("error", () => {
    if (!facts || !video.src) return;
    on.trouble("The browser cannot play this clip (its codec?). Frames and sound below are right.");
  });
  video.addEventListener("click", play);

  return { on, load, clear, now, seek, step, halt, play, loop, toggle };
})();

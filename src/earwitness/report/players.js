"use strict";
// Draws the charts (their static pictures stay where that fails), and keeps the two clips of every pair in step.

(function charts() {
  if (!window.vegaEmbed) return;
  for (const plot of document.querySelectorAll(".plot[data-spec]")) {
    const source = document.getElementById(plot.dataset.spec);
    if (!source) continue;
    const still = plot.innerHTML;
    const spec = JSON.parse(source.textContent);
    if (spec.layer || spec.mark) spec.width = "container"; // several panels cannot be fitted to a box
    if (plot.clientWidth < 540) spec.config.legend.columns = 1; // else a phone cuts them off
    const live = document.createElement("div");
    live.className = "live";
    plot.replaceChildren(live);
    // ast: expressions are interpreted, so that the page needs no right to evaluate code.
    window.vegaEmbed(live, spec, { mode: "vega-lite", renderer: "svg", actions: false, ast: true, logLevel: 1 })
      .catch(() => { plot.innerHTML = still; });
  }
})();

(function pairs() {
  const STEP = 0.06; // seconds two clips may drift apart before one is set right: below what a viewer notices

  for (const pair of document.querySelectorAll(".pair")) {
    const sides = [...pair.querySelectorAll(".side")];
    const videos = sides.map((side) => side.querySelector("video"));
    const here = videos.filter(Boolean);
    const controls = pair.querySelector(".controls");
    if (!here.length) continue;
    controls.hidden = false;
    const play = controls.querySelector(".play");
    const seek = controls.querySelector(".seek");
    const time = controls.querySelector(".time");
    const mutes = [...controls.querySelectorAll(".mute")];
    for (const video of here) video.controls = false;
    if (here.length < 2) play.querySelector(".label").textContent = "Play";

    const length = () => Math.max(0, ...here.map((v) => v.duration).filter(Number.isFinite));
    // The clip that is heard leads: a jump in the other one is not audible.
    const leader = () => here.find((v) => !v.muted && !v.ended) || here.find((v) => !v.ended) || here[0];

    function show() {
      const total = length();
      const now = Math.max(...here.map((v) => v.currentTime));
      seek.value = total ? String(Math.round((1000 * now) / total)) : "0";
      seek.setAttribute("aria-valuetext", now.toFixed(1) + " of " + total.toFixed(1) + " seconds");
      time.textContent = now.toFixed(1) + " s";
      sides.forEach((side, i) => {
        const head = side.querySelector(".head");
        const video = videos[i];
        if (!video || !Number.isFinite(video.duration)) return;
        head.hidden = false;
        head.style.left = (100 * Math.min(1, video.currentTime / video.duration)) + "%";
      });
    }

    function mark(playing) {
      play.setAttribute("aria-pressed", String(playing));
      play.classList.toggle("on", playing);
      play.querySelector(".label").textContent = playing ? "Pause" : here.length < 2 ? "Play" : "Play both";
    }

    let frame = 0;
    function follow() {
      const lead = leader();
      for (const video of here) {
        if (video !== lead && !video.ended && Math.abs(video.currentTime - lead.currentTime) > STEP) {
          video.currentTime = Math.min(lead.currentTime, video.duration || lead.currentTime);
        }
      }
      show();
      if (here.some((v) => !v.paused && !v.ended)) {
        frame = requestAnimationFrame(follow);
      } else {
        frame = 0;
        mark(false);
      }
    }

    function start() {
      for (const other of document.querySelectorAll("video")) if (!here.includes(other)) other.pause();
      if (here.every((v) => v.ended || v.currentTime >= (v.duration || Infinity) - 0.01)) set(0);
      const at = leader().currentTime;
      for (const video of here) if (Math.abs(video.currentTime - at) > 0.01) video.currentTime = at;
      Promise.all(here.map((v) => v.play())).catch(stop);
      mark(true);
      if (!frame) frame = requestAnimationFrame(follow);
    }

    function stop() {
      for (const video of here) video.pause();
      const at = leader().currentTime;
      for (const video of here) if (video.currentTime !== at && at <= video.duration) video.currentTime = at;
      mark(false);
      show();
    }

    function set(seconds) {
      for (const video of here) video.currentTime = Math.min(seconds, video.duration || seconds);
      show();
    }

    function sound(side, on) {
      const i = side === "original" ? 0 : 1;
      if (videos[i]) videos[i].muted = !on;
      const button = mutes[i];
      button.disabled = !videos[i];
      button.setAttribute("aria-pressed", String(on && Boolean(videos[i])));
    }

    sound("original", !videos[1]);
    sound("changed", true);
    play.addEventListener("click", () => (here.some((v) => !v.paused && !v.ended) ? stop() : start()));
    seek.addEventListener("input", () => set((length() * Number(seek.value)) / 1000));
    for (const button of mutes) {
      button.addEventListener("click", () => sound(button.dataset.side, button.getAttribute("aria-pressed") !== "true"));
    }
    sides.forEach((side, i) => {
      const video = videos[i];
      if (!video) return;
      video.addEventListener("click", () => play.click());
      video.addEventListener("seeked", () => { if (!frame) show(); });
      side.querySelector(".wave").addEventListener("click", (event) => {
        const box = event.currentTarget.getBoundingClientRect();
        if (Number.isFinite(video.duration)) set(((event.clientX - box.left) / box.width) * video.duration);
      });
    });
    pair.addEventListener("keydown", (event) => {
      if (event.target.matches("input, button, summary, a")) return;
      if (event.key === " ") { event.preventDefault(); play.click(); }
    });
  }
})();

// What is folded away on the screen belongs on paper.
window.addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});

(function copy() {
  for (const button of document.querySelectorAll(".copy")) {
    const source = document.getElementById(button.dataset.copy);
    if (!source) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.textContent);
      } catch {
        // A page opened from the disk may not be let near the clipboard: then the old way, by selection.
        const range = document.createRange();
        range.selectNodeContents(source);
        const selection = window.getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }
})();

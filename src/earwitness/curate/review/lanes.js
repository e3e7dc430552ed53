"use strict";
// One time axis under the clip: frames, ruler, wave and spectrogram as the server measured them, and the markers of
// events over them. Times are seconds on the clip's clock; nothing here asks the browser's opinion of the file.

const lanes = (() => {
  const $ = (id) => document.getElementById(id);
  const box = $("lanes");
  const canvas = { strip: $("strip"), ruler: $("ruler"), wave: $("wave"), spectrum: $("spectrum") };
  const CELL = 72, COLUMNS = 20; // of the strip's grid, as review_pictures.py draws it
  const DEEPEST = 5; // times that the axis can be halved
  let facts = null, level = 0, from = 0, turn = 0;
  let strip = null, wave = null, grey = null, spectrum = null;
  let events = [], chosen = 0, hidden = false;
  const on = { seek: () => {}, move: () => {}, done: () => {}, choose: () => {}, drop: () => {} };

  const length = () => (facts ? facts.duration : 1);
  const span = () => length() / 2 ** level;
  const x = (t) => ((t - from) / span()) * box.clientWidth;
  const timeAt = (clientX) => {
    const place = box.getBoundingClientRect();
    return Math.min(length(), Math.max(0, from + ((clientX - place.left) / place.width) * span()));
  };
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Frames: the last picture shown at or before a time.
  function frameAt(t) {
    const times = facts ? facts.times : [];
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (times[middle] <= t + 1e-4) low = middle; else high = middle - 1;
    }
    return low;
  }
  const gap = (i) => {
    const times = facts ? facts.times : [];
    if (times.length < 2) return 0.04;
    const next = i + 1 < times.length ? times[i + 1] : length();
    return Math.max(0.001, next - times[i]);
  };

  function load(found, base) {
    facts = found; level = 0; from = 0; strip = wave = grey = spectrum = null;
    const mine = ++turn;
    const picture = (name, done) => {
      const image = new Image();
      image.onload = () => { if (mine === turn) { done(image); draw(); } };
      image.src = `${base}/${name}`;
    };
    if (facts.cells) picture("strip.jpg", (image) => { strip = image; });
    if (facts.sound) {
      picture("spectrum.png", (image) => { grey = image; spectrum = coloured(image); });
      fetch(`${base}/wave.bin`).then((r) => (r.ok ? r.arrayBuffer() : null)).then((bytes) => {
        if (bytes && mine === turn) { wave = new Int8Array(bytes); draw(); }
      }).catch(() => {});
    }
    const note = $("nosound");
    note.hidden = facts.sound && !facts.silent;
    note.textContent = facts.sound ? "The sound track is silent: every sample is 0" : "No sound track";
    draw();
  }

  function clear() {
    turn++; facts = strip = wave = grey = spectrum = null; events = [];
    $("markers").replaceChildren();
    $("nosound").hidden = true;
    draw();
  }

  function coloured(image) {
    const copy = document.createElement("canvas");
    copy.width = image.naturalWidth; copy.height = image.naturalHeight;
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, copy.width, copy.height);
    const stops = ["--spectrum-low", "--spectrum-middle", "--spectrum-high"].map((name) => {
      const hex = ink(name);
      return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    });
    for (let i = 0; i < pixels.data.length; i += 4) {
      const place = (pixels.data[i] / 255) * 2, low = place < 1 ? 0 : 1, part = place - low;
      for (let c = 0; c < 3; c++) pixels.data[i + c] = stops[low][c] + part * (stops[low + 1][c] - stops[low][c]);
    }
    pen.putImageData(pixels, 0, 0);
    return copy;
  }

  function pen(name) {
    const c = canvas[name], dots = window.devicePixelRatio || 1;
    const wide = c.clientWidth, high = c.clientHeight;
    if (c.width !== Math.round(wide * dots) || c.height !== Math.round(high * dots)) {
      c.width = Math.round(wide * dots); c.height = Math.round(high * dots);
    }
    const made = c.getContext("2d");
    made.setTransform(dots, 0, 0, dots, 0, 0);
    made.clearRect(0, 0, wide, high);
    return [made, wide, high];
  }

  function draw() {
    drawStrip(); drawRuler(); drawWave(); drawSpectrum(); place();
  }

  function drawStrip() {
    const [p, wide, high] = pen("strip");
    if (!strip || hidden) return;
    const cell = strip.naturalWidth / Math.min(facts.cells, COLUMNS);
    const count = Math.max(1, Math.round(wide / ((high * cell) / CELL)));
    for (let i = 0; i < count; i++) {
      const middle = from + ((i + 0.5) / count) * span();
      const k = Math.min(facts.cells - 1, Math.floor((middle / length()) * facts.cells));
      const sx = (k % COLUMNS) * cell, sy = Math.floor(k / COLUMNS) * CELL;
      p.drawImage(strip, sx, sy, cell, CELL, (i / count) * wide, 0, wide / count + 0.5, high);
    }
  }

  function drawRuler() {
    const [p, wide, high] = pen("ruler");
    if (!facts) return;
    const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300];
    const step = steps.find((s) => (s / span()) * wide >= 60) || 600;
    p.fillStyle = p.strokeStyle = ink("--faint");
    p.font = "11px system-ui, sans-serif"; p.textBaseline = "middle";
    p.beginPath();
    for (let n = Math.ceil(from / step); n * step <= from + span() + 1e-9; n++) {
      const at = x(n * step);
      p.moveTo(at, high - 5); p.lineTo(at, high);
      p.textAlign = at < 14 ? "left" : at > wide - 18 ? "right" : "center";
      const words = (n * step).toFixed(step < 0.1 ? 2 : step < 1 ? 1 : 0) + (n === 0 ? " s" : "");
      p.fillText(words, Math.min(wide - 1, Math.max(1, at)), high / 2 - 2);
    }
    p.globalAlpha = 0.5; p.stroke(); p.globalAlpha = 1;
  }

  function drawWave() {
    const [p, wide, high] = pen("wave");
    if (!wave || !facts.bins) return;
    const middle = high / 2, scale = (v) => Math.sign(v) * (Math.abs(v) / 127) ** 0.6 * (middle - 3);
    // Onsets lie under the sound: an aid, not an answer.
    p.fillStyle = ink("--seen"); p.globalAlpha = 0.75;
    for (const at of facts.onsets) {
      const here = x(at);
      p.beginPath(); p.moveTo(here - 4, 0); p.lineTo(here + 4, 0); p.lineTo(here, 6); p.fill();
    }
    p.globalAlpha = 1; p.fillStyle = ink("--heard");
    const perPixel = (facts.bins * span()) / length() / wide, first = (from / length()) * facts.bins;
    for (let px = 0; px < wide; px++) {
      const a = Math.floor(first + px * perPixel);
      const b = Math.min(facts.bins, Math.max(a + 1, Math.floor(first + (px + 1) * perPixel)));
      let low = 0, top = 0;
      for (let i = a; i < b; i++) { low = Math.min(low, wave[2 * i]); top = Math.max(top, wave[2 * i + 1]); }
      const y0 = middle - scale(top), y1 = middle - scale(low);
      p.fillRect(px, y0, 1, Math.max(1, y1 - y0));
    }
  }

  function drawSpectrum() {
    const [p, wide, high] = pen("spectrum");
    if (!spectrum) return;
    const sx = (from / length()) * spectrum.width, sw = (span() / length()) * spectrum.width;
    p.imageSmoothingEnabled = true;
    p.drawImage(spectrum, sx, 0, sw, spectrum.height, 0, 0, wide, high);
  }

  // --- markers -------------------------------------------------------------------------------------------------

  function show(list, which) {
    events = list; chosen = which;
    const held = document.activeElement && document.activeElement.dataset.marker;
    const made = [];
    events.forEach((event, i) => {
      for (const sense of ["seen", "heard"]) {
        if (event[sense] === null) continue;
        made.push(marker(event, i, sense));
      }
    });
    $("markers").replaceChildren(...made);
    if (held) { const again = $("markers").querySelector(`[data-marker="${held}"]`); if (again) again.focus(); }
    place();
  }

  function marker(event, i, sense) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = `marker ${sense}${i === chosen ? " chosen" : ""}`;
    made.dataset.marker = `${i}-${sense}`;
    made.setAttribute("role", "slider");
    made.setAttribute("aria-label", `event ${i + 1}, ${event.what}, ${sense}`);
    made.setAttribute("aria-valuemin", "0");
    made.setAttribute("aria-valuemax", length().toFixed(3));
    const flag = document.createElement("span");
    flag.textContent = String(i + 1);
    flag.title = `${event.what}: ${sense}`;
    made.append(flag);
    made.addEventListener("focus", () => { if (chosen !== i) on.choose(i); });
    made.addEventListener("keydown", (e) => keyed(e, i, sense));
    flag.addEventListener("pointerdown", (e) => dragged(e, i, sense, flag));
    return made;
  }

  function place() {
    for (const made of $("markers").children) {
      const [i, sense] = made.dataset.marker.split("-");
      const event = events[+i];
      if (!event || event[sense] === null) continue;
      made.style.left = `${x(event[sense])}px`;
      made.setAttribute("aria-valuenow", event[sense].toFixed(3));
      made.setAttribute("aria-valuetext", `${event[sense].toFixed(3)} seconds`);
    }
    head(last);
  }

  const clipped = (t) => Math.min(length(), Math.max(0, t));
  const milli = (t) => Math.round(t * 1000) / 1000;

  // What is seen begins with a picture; what is heard may begin between two.
  const fits = (t, sense) => (sense === "seen" && facts && facts.times.length ? facts.times[frameAt(t)] : milli(t));

  function keyed(e, i, sense) {
    if (e.ctrlKey || e.metaKey) return;
    if (e.key === "Delete" || e.key === "Backspace") {
      e.preventDefault(); e.stopPropagation(); on.drop(i, sense);
      return;
    }
    if (e.key === "Escape") { e.preventDefault(); e.stopPropagation(); document.activeElement.blur(); return; }
    const way = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1 }[e.key];
    if (!way) return;
    e.preventDefault(); e.stopPropagation();
    const now = events[i][sense];
    let t;
    if (e.altKey) t = now + way * 0.005;
    else if (sense === "seen" && facts.times.length) {
      const at = frameAt(now), steps = e.shiftKey ? 10 : 1;
      // Between two pictures the first step lands on one.
      const to = way > 0 || Math.abs(facts.times[at] - now) < 1e-4 ? at + way * steps : at;
      t = facts.times[Math.min(facts.times.length - 1, Math.max(0, to))];
    } else t = now + way * gap(frameAt(now)) * (e.shiftKey ? 10 : 1);
    on.move(i, sense, milli(clipped(t)), true);
    on.done();
  }

  function dragged(e, i, sense, flag) {
    if (e.button) return;
    e.preventDefault(); e.stopPropagation();
    on.choose(i);
    const made = $("markers").querySelector(`[data-marker="${i}-${sense}"]`);
    made.focus({ preventScroll: true });
    const grip = made.firstChild;
    grip.setPointerCapture(e.pointerId);
    const off = events[i][sense] - timeAt(e.clientX); // the flag is taken where it is, not pulled to the hand
    const follow = (m) => {
      const t = fits(clipped(timeAt(m.clientX) + off), sense);
      if (t !== events[i][sense]) { on.move(i, sense, t, true); }
    };
    const end = () => {
      grip.removeEventListener("pointermove", follow);
      for (const name of ["pointerup", "pointercancel"]) grip.removeEventListener(name, end);
      on.done();
    };
    grip.addEventListener("pointermove", follow);
    for (const name of ["pointerup", "pointercancel"]) grip.addEventListener(name, end);
  }

  // --- playhead, zoom ------------------------------------------------------------------------------------------

  let last = 0;
  function head(t) {
    last = t;
    $("head").style.left = `${x(t)}px`;
  }
  function follow(t) {
    if (level && (t < from || t > from + span())) {
      from = Math.min(length() - span(), Math.max(0, t - 0.1 * span()));
      draw();
    }
    head(t);
  }
  function zoom(by, about = last) {
    const next = Math.min(DEEPEST, Math.max(0, level + by));
    if (next === level) return;
    const part = Math.min(1, Math.max(0, (about - from) / span()));
    level = next;
    from = Math.min(length() - span(), Math.max(0, about - (by > 0 ? 0.5 : part) * span()));
    draw();
  }

  box.addEventListener("pointerdown", (e) => {
    if (e.button || !facts) return;
    e.preventDefault();
    box.setPointerCapture(e.pointerId);
    on.seek(timeAt(e.clientX));
    const scrub = (m) => on.seek(timeAt(m.clientX));
    const end = () => { box.removeEventListener("pointermove", scrub); box.removeEventListener("pointerup", end); };
    box.addEventListener("pointermove", scrub);
    box.addEventListener("pointerup", end);
  });
  box.addEventListener("wheel", (e) => {
    if (!facts || !(e.ctrlKey || level)) return;
    e.preventDefault();
    if (e.ctrlKey) { zoom(e.deltaY < 0 ? 1 : -1, timeAt(e.clientX)); return; }
    const by = ((Math.abs(e.deltaX) > Math.abs(e.deltaY) ? e.deltaX : e.deltaY) / box.clientWidth) * span();
    from = Math.min(length() - span(), Math.max(0, from + by));
    draw();
  }, { passive: false });
  new ResizeObserver(draw).observe(box);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    if (grey) spectrum = coloured(grey);
    draw();
  });

  const veil = (off) => { hidden = off; drawStrip(); };
  return { on, load, clear, show, place, follow, zoom, frameAt, gap, fits, veil };
})();

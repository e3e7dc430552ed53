"use strict";
// The page of a review: one annotator, one clip at a time. What an annotator does is in this browser before anything
// is sent (outbox.js); the clip plays in player.js, over the time axis of lanes.js.

(() => {
  const $ = (id) => document.getElementById(id);
  const { kept, shelf, ask, own, final, pause } = outbox;
  // What a criterion's key makes of it; a click on the answer that it has opens it again.
  const TURN = new Map([[null, false], [false, true], [true, false]]);
  const NUDGE = 0.5; // seconds of Shift and an arrow
  let review = null, name = "";
  let states = [], place = 0, clip = null, facts = null, ready = false;
  let draft = null, chosen = 0, since = 0, spent = 0;
  const judged = []; // places, the last one last: U goes back
  const ahead = new Map(); // place -> promise of a clip asked for early
  const cast = new Map(); // clip -> vote of this page: what was asked for before it arrived does not know of it

  // --- coming in ------------------------------------------------------------------------------------------------

  async function enter() {
    name = decodeURIComponent(location.pathname.slice(3));
    if (location.hash.length > 8) { // a link with its key, from the terminal
      kept.put(shelf("key", name), location.hash.slice(1));
      history.replaceState(null, "", location.pathname);
    }
    let key = kept.get(shelf("key", name)) || "";
    if (!key) {
      try {
        const got = await ask("/api/names", { name });
        key = got.key; name = got.name;
        kept.put(shelf("key", name), key);
      } catch (error) {
        door(review, error.status ? error.message : "The server does not answer.");
        return;
      }
    }
    outbox.is(review.review, name, key);
    let way;
    try {
      way = await ask(own());
    } catch (error) {
      door(review, error.status ? error.message : "The server does not answer.");
      return;
    }
    states = [...way.states];
    for (const vote of outbox.unsent()) {
      if (vote.place < states.length) states[vote.place] = vote.accept ? "a" : "r";
    }
    $("desk").hidden = false;
    $("who").textContent = name;
    $("manifest").textContent = review.manifest;
    document.title = `${name} · ${review.manifest} · Earwitness review`;
    criteria();
    outbox.send();
    const last = kept.get(shelf("place", name));
    await go(Number.isInteger(last) && last < states.length ? last : firstOpen(0));
  }

  const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const firstOpen = (start) => {
    for (let i = 0; i < states.length; i++) {
      const at = (start + i) % states.length;
      if (states[at] === ".") return at;
    }
    return Math.min(start, states.length - 1);
  };

  // --- one clip ------------------------------------------------------------------------------------------------

  const fetched = (at) => {
    if (!ahead.has(at)) {
      const asked = ask(own(`/clips/${at}`)).then((got) => {
        got.facts = ask(`/media/${got.number}/facts`);
        got.facts.catch(() => {});
        return got;
      });
      asked.catch(() => ahead.delete(at));
      ahead.set(at, asked);
      if (ahead.size > 6) ahead.delete(ahead.keys().next().value);
    }
    return ahead.get(at);
  };

  let visit = 0;
  async function go(to, focus = true) {
    if (to < 0) { say("This is the first clip."); return; }
    if (to >= states.length) { say("This is the last clip."); return; }
    leave();
    const mine = ++visit;
    place = to; ready = false; clip = facts = null;
    kept.put(shelf("place", name), place);
    player.clear(); lanes.clear(); veil("busy");
    say(""); counted();
    $("title").textContent = `Clip ${place + 1} of ${states.length}`;
    for (let wait = 400; ; wait = Math.min(5000, wait * 2)) {
      try {
        const got = await fetched(place);
        if (mine !== visit) return;
        ahead.delete(place); // the next visit asks again: the vote may be another then
        open(got, focus);
        const found = await got.facts;
        if (mine !== visit) return;
        drawn(found);
        break;
      } catch (error) {
        if (mine !== visit) return;
        ahead.delete(place);
        if (final(error)) { veil("trouble", error.message); break; }
        veil("trouble", "The server does not answer. What you did is kept here; trying again…");
        await pause(wait);
        if (mine !== visit) return;
      }
    }
    if (place + 1 < states.length) fetched(place + 1).catch(() => {}); // drawn while this one is looked at
  }

  const plain = (events) => events.map((e) => ({ what: e.what, seen: e.seen ?? null, heard: e.heard ?? null }));

  function open(got, focus) {
    clip = got; since = performance.now(); spent = 0; chosen = 0;
    const fits = (vote) => vote && vote.clip === clip.clip && vote.about === clip.about;
    const mine = [...outbox.unsent(), cast.get(clip.clip)].filter(fits).pop() || clip.vote;
    const notes = kept.get(shelf("draft", name, clip.clip));
    if (notes && notes.about === clip.about) draft = notes;
    else if (mine) {
      draft = {
        about: clip.about, criteria: {}, comment: mine.comment || "", events: plain(mine.events),
        decided: mine.accept,
      };
      for (const c of review.criteria) draft.criteria[c.name] = mine[c.name] ?? null;
    } else {
      draft = { about: clip.about, criteria: {}, comment: "", events: plain(clip.events), decided: null };
      for (const c of review.criteria) draft.criteria[c.name] = null;
    }
    const title = $("title"), small = document.createElement("small");
    small.textContent = ` ${clip.clip}`;
    title.replaceChildren(`Clip ${place + 1} of ${states.length}`, small);
    const lead = document.createElement("div"), claimedly = document.createElement("dt");
    claimedly.textContent = "Claimed:"; lead.append(claimedly);
    $("claim").replaceChildren(lead, ...["seen", "heard"].map((sense) => {
      const [line, dt, dd] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      line.className = sense; dt.textContent = sense;
      dd.textContent = clip[sense].join(", ") || "nothing";
      dd.classList.toggle("none", !clip[sense].length);
      line.append(dt, dd);
      return line;
    }));
    $("why").hidden = !clip.why;
    $("why").textContent = clip.why;
    $("comment").value = draft.comment;
    shown();
    if (focus) $("title").focus({ preventScroll: true });
  }

  function drawn(found) {
    facts = found;
    if (facts.error) {
      veil("trouble", `This clip cannot be shown: ${facts.error}`);
      shown();
      return;
    }
    veil(null);
    const base = `/media/${clip.number}/${facts.key}`;
    lanes.load(facts, base);
    ready = true;
    player.load(facts, `${base}/play`);
    shown();
  }

  function veil(which, words) {
    for (const id of ["trouble", "busy"]) $(id).hidden = id !== which;
    if (which === "trouble") $("trouble").textContent = words;
  }

  function counted() {
    const done = states.filter((s) => s !== ".").length;
    $("count").textContent = `${done.toLocaleString("en")} of ${states.length.toLocaleString("en")} judged`;
    $("bar").style.width = `${(100 * done) / Math.max(1, states.length)}%`;
    $("standing").textContent = { a: "you accepted it", r: "you rejected it" }[states[place]] || "";
    $("prev").disabled = place === 0;
    $("next").disabled = place + 1 >= states.length;
  }

  outbox.on.told = (words, failing) => {
    const line = $("saved");
    line.classList.toggle("waiting", failing);
    if (line.textContent !== words) line.textContent = words;
  };
  outbox.on.refused = (vote, why) => {
    cast.delete(vote.clip);
    say(`The vote on ${vote.clip} was refused: ${why}`);
    ask(own()).then((way) => { states = [...way.states]; counted(); }).catch(() => {});
  };

  function say(words, good = false) {
    $("say").textContent = words;
    $("say").classList.toggle("good", good);
  }

  function save() {
    if (clip) kept.put(shelf("draft", name, clip.clip), draft);
  }
  function changed() { draft.decided = null; save(); shown(); }
  function leave() {
    if (clip && $("comment").value !== draft.comment) { draft.comment = $("comment").value; save(); }
  }

  // --- criteria, events ----------------------------------------------------------------------------------------

  function criteria() {
    $("criteria").replaceChildren(...review.criteria.map((c, i) => {
      const tags = ["section", "h3", "p", "div", "kbd"];
      const [part, title, asks, both, hint] = tags.map((tag) => document.createElement(tag));
      part.className = "criterion"; part.dataset.name = c.name; part.title = c.asks;
      hint.textContent = String(i + 1);
      title.id = `c-${c.name}`;
      title.append(sentence(c.title), " ", hint);
      asks.textContent = c.asks;
      both.className = "answers";
      both.setAttribute("role", "group"); both.setAttribute("aria-labelledby", title.id);
      for (const [words, value] of [["Yes", true], ["No", false]]) {
        const button = document.createElement("button");
        button.type = "button"; button.textContent = words; button.className = words.toLowerCase();
        button.setAttribute("aria-keyshortcuts", String(i + 1));
        button.addEventListener("click", () => mark(c.name, draft.criteria[c.name] === value ? null : value));
        both.append(button);
      }
      part.append(title, both, asks);
      return part;
    }));
  }

  function mark(which, value) {
    if (!clip) return;
    draft.criteria[which] = value;
    say(""); changed();
  }

  const moved = (i, sense) => {
    const claim = clip.events[i];
    return !claim || (claim[sense] ?? null) !== draft.events[i][sense];
  };

  function shown() {
    if (!clip) return;
    for (const part of $("criteria").children) {
      const value = draft.criteria[part.dataset.name];
      part.classList.toggle("yes", value === true); part.classList.toggle("no", value === false);
      for (const button of part.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(value === (button.textContent === "Yes")));
      }
    }
    const part = (sense, i) => {
      const made = document.createElement("span"), t = draft.events[i][sense];
      made.className = `${sense}${moved(i, sense) ? " moved" : ""}`;
      made.textContent = t === null ? `${sense} never` : `${sense} ${t.toFixed(3)}`;
      return made;
    };
    $("events").replaceChildren(...draft.events.map((event, i) => {
      const chip = document.createElement("button"), title = document.createElement("b");
      chip.type = "button"; chip.className = "chip"; chip.setAttribute("role", "radio");
      chip.setAttribute("aria-checked", String(i === chosen)); chip.tabIndex = i === chosen ? 0 : -1;
      title.textContent = `${i + 1} ${event.what}`;
      chip.append(title, part("seen", i), part("heard", i));
      chip.addEventListener("click", () => choose(i));
      return chip;
    }));
    const on = $("events").querySelector('[aria-checked="true"]');
    if (on) on.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (facts && !facts.error) lanes.show(draft.events, chosen);
    $("accept").setAttribute("aria-pressed", String(draft.decided === true));
    $("reject").setAttribute("aria-pressed", String(draft.decided === false));
    $("accept").disabled = !!(facts && facts.error);
    counted();
  }

  function choose(i) {
    if (!draft || !draft.events.length) return;
    chosen = (i + draft.events.length) % draft.events.length;
    shown();
  }

  function setTime(i, sense, t, look) {
    const event = draft.events[i];
    if (!event) { say("There is no event yet: E adds one."); return; }
    event[sense] = t;
    if (look && t !== null) player.seek(t);
  }
  lanes.on.move = (i, sense, t, look) => { setTime(i, sense, t, look); lanes.place(); chips(i); };
  lanes.on.done = () => changed();
  lanes.on.drop = (i, sense) => { setTime(i, sense, null); changed(); };
  lanes.on.choose = choose;
  lanes.on.seek = player.seek;
  player.on.say = say;
  player.on.trouble = (words) => veil("trouble", words);

  function chips(i) { // while dragging: only the numbers
    const chip = $("events").children[i];
    if (!chip) return;
    for (const sense of ["seen", "heard"]) {
      const t = draft.events[i][sense];
      chip.querySelector(`.${sense}`).textContent = t === null ? `${sense} never` : `${sense} ${t.toFixed(3)}`;
    }
  }

  function stamp(sense) {
    if (!ready) return;
    if (!draft.events.length) { add(); return; }
    setTime(chosen, sense, lanes.fits(player.now(), sense));
    changed();
  }

  function add() {
    if (!ready) return;
    const what = clip.heard[0] || clip.seen[0] || "event";
    const at = (sense, there) => (there ? lanes.fits(player.now(), sense) : null);
    draft.events.push({ what, seen: at("seen", facts.times.length), heard: at("heard", facts.sound) });
    chosen = draft.events.length - 1;
    changed();
  }

  function restore() {
    draft.events = plain(clip.events);
    chosen = 0;
    changed();
  }

  // --- the verdict ---------------------------------------------------------------------------------------------

  const hex = (byte) => byte.toString(16).padStart(2, "0");
  const uuid = () => [...crypto.getRandomValues(new Uint8Array(16))].map(hex).join("");

  function vote(accept) {
    if (!clip || !(ready || (facts && facts.error))) return;
    leave();
    const titles = Object.fromEntries(review.criteria.map((c) => [c.name, c.title]));
    const failed = Object.keys(draft.criteria).filter((c) => draft.criteria[c] === false);
    if (facts.error && !accept && !draft.comment.trim()) draft.comment = `cannot be shown: ${facts.error}`;
    if (accept && facts.error) { say("What cannot be shown cannot be accepted."); return; }
    if (accept && failed.length) {
      say(`${sentence(failed.map((c) => titles[c]).join(" and "))} is marked “no”: reject, or change that.`);
      return;
    }
    if (!accept && !failed.length && !draft.comment.trim()) {
      say("Why? Mark what is not met with 1, 2 or 3, or write a comment (C)."); return;
    }
    if (accept) for (const c of Object.keys(draft.criteria)) draft.criteria[c] = true;
    timed();
    const record = outbox.add({
      id: uuid(), clip: clip.clip, about: clip.about, accept, ...draft.criteria, events: draft.events,
      comment: draft.comment.trim(), seconds: Math.round(spent / 100) / 10, place,
    });
    cast.set(clip.clip, record);
    kept.drop(shelf("draft", name, clip.clip));
    states[place] = accept ? "a" : "r";
    draft.decided = accept;
    judged.push(place);
    ahead.delete(place);
    shown();
    if (states.includes(".")) go(firstOpen(place + 1));
    else say("All clips are judged. Thank you: you may close this page, or look back with P.", true);
  }

  function timed() {
    if (document.visibilityState === "visible") spent += performance.now() - since;
    since = performance.now();
  }
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") { spent += performance.now() - since; leave(); }
    since = performance.now();
  });
  window.addEventListener("pagehide", leave);

  // --- hands ---------------------------------------------------------------------------------------------------

  const nudge = (by) => { player.halt(); player.seek(player.now() + by); };
  const loop = () => {
    const event = draft && draft.events[chosen];
    if (ready && event) player.loop(event.heard ?? event.seen ?? player.now());
  };
  const NEXT = () => go(place + 1), BEFORE = () => go(place - 1);
  const clicks = {
    play: player.play, back: () => player.step(-1), forth: () => player.step(1),
    slow: () => player.toggle("slow"), mute: () => player.toggle("mute"), hide: () => player.toggle("hide"),
    accept: () => vote(true), reject: () => vote(false), next: NEXT, prev: BEFORE, add,
    in: () => lanes.zoom(1), out: () => lanes.zoom(-1),
    help: () => $("keys").showModal(),
  };
  for (const [id, does] of Object.entries(clicks)) {
    $(id).addEventListener("click", (e) => { if (e.detail) $(id).blur(); does(); }); // a click leaves the keys free
  }
  $("comment").addEventListener("input", () => {
    if (!clip) return;
    draft.comment = $("comment").value; draft.decided = null;
    save(); say("");
  });

  const keys = {
    " ": player.play, l: loop,
    x: () => player.toggle("slow"), m: () => player.toggle("mute"), v: () => player.toggle("hide"),
    a: () => vote(true), r: () => vote(false), n: NEXT, p: BEFORE,
    u: () => { if (judged.length) go(judged.pop()); else say("Nothing was judged since the page was opened."); },
    c: () => $("comment").focus(), s: () => stamp("seen"), h: () => stamp("heard"), e: add,
    z: () => { if (clip) restore(); }, "[": () => choose(chosen - 1), "]": () => choose(chosen + 1),
    "+": () => lanes.zoom(1), "=": () => lanes.zoom(1), "-": () => lanes.zoom(-1),
    Home: () => nudge(-Infinity), End: () => nudge(Infinity),
    ArrowLeft: (e) => (e.shiftKey ? nudge(-NUDGE) : player.step(-1)),
    ArrowRight: (e) => (e.shiftKey ? nudge(NUDGE) : player.step(1)),
    "?": () => $("keys").showModal(),
  };
  document.addEventListener("keydown", (e) => {
    if ($("desk").hidden || e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
    if ($("keys").open) { if (e.key === "?") { $("keys").close(); e.preventDefault(); } return; }
    if (e.target.closest("textarea, input")) { if (e.key === "Escape") e.target.blur(); return; }
    if (e.target.closest(".chips") && ["ArrowLeft", "ArrowRight"].includes(e.key)) { // as radio buttons do
      e.preventDefault(); choose(chosen + (e.key === "ArrowRight" ? 1 : -1));
      $("events").children[chosen].focus();
      return;
    }
    if ([" ", "Enter"].includes(e.key) && e.target.closest("button")) return; // the button's own
    if (/^[1-9]$/.test(e.key)) {
      const c = review && review.criteria[+e.key - 1];
      if (c && clip) { e.preventDefault(); mark(c.name, TURN.get(draft.criteria[c.name])); }
      return;
    }
    const does = keys[e.key] || (e.key.length === 1 && keys[e.key.toLowerCase()]);
    if (!does || (e.repeat && !e.key.startsWith("Arrow"))) return;
    e.preventDefault();
    does(e);
  });

  (async () => {
    for (let wait = 500; ; wait = Math.min(5000, wait * 2)) {
      try { review = await ask("/api/review"); break; } catch { await pause(wait); }
    }
    outbox.is(review.review, "", "");
    if (location.pathname.startsWith("/a/")) await enter(); else door(review);
  })();
})();

"use strict";
// What an annotator did, kept in this browser until the server says that it is on its disk: drafts as they change,
// votes in the order they were given. Each vote is an entry of its own with an id, so that two tabs and a reply that
// was lost do no harm; a vote that the server refuses for good stays here too, under "refused".

const outbox = (() => {
  let review = "", name = "", key = "";
  const on = { told: () => {}, refused: () => {} };
  const loose = []; // votes that localStorage would not take (full, or forbidden): kept in memory, and said so

  const shelf = (...parts) => ["ew", review, ...parts].join(":");
  const kept = {
    get(at) { try { return JSON.parse(localStorage.getItem(at)); } catch { return null; } },
    put(at, value) {
      try { localStorage.setItem(at, JSON.stringify(value)); return true; } catch { return false; }
    },
    drop(at) { localStorage.removeItem(at); },
    all(prefix) { return Object.keys(localStorage).filter((at) => at.startsWith(prefix)).sort(); },
  };
  const unsent = () => [...kept.all(shelf("out", name, "")).map(kept.get).filter(Boolean), ...loose];

  async function ask(path, body) {
    const how = { headers: { "X-Review-Key": key }, signal: AbortSignal.timeout(15000) };
    if (body !== undefined) {
      how.method = "POST"; how.body = JSON.stringify(body); how.headers["Content-Type"] = "application/json";
    }
    const reply = await fetch(path, how);
    let told = {};
    try { told = await reply.json(); } catch { /* no JSON: the status says it */ }
    if (!reply.ok) throw Object.assign(new Error(told.error || `status ${reply.status}`), { status: reply.status });
    return told;
  }
  const own = (rest = "") => `/api/a/${encodeURIComponent(name)}${rest}`;
  const final = (error) => error.status >= 400 && error.status < 500;
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  let order = 0;
  function add(vote) {
    const sort = `${Date.now().toString().padStart(14, "0")}-${(order++).toString().padStart(5, "0")}`;
    const entry = { ...vote, sort };
    if (!kept.put(shelf("out", name, sort), entry)) loose.push(entry);
    send();
    return entry;
  }

  let sending = false;
  async function send() {
    if (sending) return;
    sending = true;
    for (let wait = 500; ; ) {
      const entry = unsent()[0];
      say();
      if (!entry) break;
      const { sort, place, ...vote } = entry; // those two are the page's own
      try {
        await ask(own("/votes"), vote);
        wait = 500;
      } catch (error) {
        if (!final(error) || error.status === 403) {
          say(error.status === 403 ? error.message : "", true);
          await pause(wait);
          wait = Math.min(10000, wait * 2);
          continue;
        }
        kept.put(shelf("refused", name, sort), entry);
        on.refused(entry, error.message);
      }
      kept.drop(shelf("out", name, sort));
      const again = loose.findIndex((one) => one.id === entry.id);
      if (again >= 0) loose.splice(again, 1);
    }
    sending = false;
    say();
  }

  let failing = false;
  function say(trouble = "", failed = null) {
    const count = unsent().length;
    failing = count > 0 && (failed ?? failing);
    let words = "all saved";
    if (count) words = `${count} ${count === 1 ? "vote" : "votes"} kept here, not sent yet`;
    if (loose.length) words += " (keep this page open)";
    on.told(trouble || words, failing);
  }

  return {
    on, kept, shelf, ask, own, final, pause, add, send, unsent,
    is(which, who, whose) { review = which; name = who; key = whose; },
  };
})();

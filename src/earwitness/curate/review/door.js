"use strict";
// The first page: what is asked of an annotator, and by which name. No account: the key that comes back stays in this
// browser.

function door(review, trouble = "") {
  const $ = (id) => document.getElementById(id), { kept, shelf, ask } = outbox;
  $("door").hidden = false;
  $("door-error").textContent = trouble;
  const clips = `${review.clips.toLocaleString("en")} ${review.clips === 1 ? "clip" : "clips"}`;
  $("door-lead").textContent = `${clips} in ${review.manifest}. ` +
    "Each is judged by two or more people, without seeing each other's answers, and passes if all accept it.";
  $("door-criteria").replaceChildren(...review.criteria.map((c) => {
    const line = document.createElement("li"), title = document.createElement("b");
    title.textContent = c.title.charAt(0).toUpperCase() + c.title.slice(1);
    line.append(title, `: ${c.asks}`);
    return line;
  }));
  const known = kept.all(shelf("key", "")).map((at) => at.slice(shelf("key", "").length));
  $("door-known").hidden = !known.length;
  $("door-known").querySelector("ul").replaceChildren(...known.map((one) => {
    const line = document.createElement("li"), link = document.createElement("a");
    link.href = `/a/${encodeURIComponent(one)}`; link.textContent = one;
    line.append(link);
    return line;
  }));
  $("door-name").focus();
  $("door-form").addEventListener("submit", async (e) => {
    e.preventDefault();
    const wanted = $("door-name").value.trim();
    if (kept.get(shelf("key", wanted))) { location.assign(`/a/${encodeURIComponent(wanted)}`); return; }
    try {
      const got = await ask("/api/names", { name: wanted });
      kept.put(shelf("key", got.name), got.key);
      location.assign(`/a/${encodeURIComponent(got.name)}`);
    } catch (error) {
      $("door-error").textContent = error.status ? error.message : "The server does not answer.";
    }
  });
}

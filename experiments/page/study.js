"use strict";
// A study's page. All texts from the data go into the page as text, never as markup; nothing is sent.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const people = new Map(Object.entries(data.people));
  const films = [$("a"), $("b"), $("s")];
  const shown = () => films.filter((film) => film.getAttribute("src"));

  // --- SHA-256 (FIPS 180-4) and HMAC (RFC 2104): pages from disk or plain http have no crypto.subtle
  const primes = [];
  for (let n = 2; primes.length < 64; n += 1) if (primes.every((p) => n % p)) primes.push(n);
  const bits = (x) => Math.floor((x - Math.floor(x)) * 2 ** 32) | 0;
  const ROUND = primes.map((p) => bits(Math.cbrt(p)));
  const FIRST = primes.slice(0, 8).map((p) => bits(Math.sqrt(p)));
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  const sha256 = (bytes) => {
    const size = bytes.length, blocks = ((size + 8) >> 6) + 1;
    const padded = new Uint8Array(blocks * 64);
    padded.set(bytes);
    padded[size] = 0x80;
    const view = new DataView(padded.buffer);
    view.setUint32(padded.length - 8, Math.floor(size / 2 ** 29));
    view.setUint32(padded.length - 4, (size << 3) >>> 0);
    const state = [...FIRST], w = new Int32Array(64);
    for (let block = 0; block < blocks; block += 1) {
      for (let i = 0; i < 64; i += 1) {
        if (i < 16) { w[i] = view.getInt32(block * 64 + i * 4); continue; }
        const x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + (turn(x, 7) ^ turn(x, 18) ^ (x >>> 3)) + w[i - 7] + (turn(y, 17) ^ turn(y, 19) ^ (y >>> 10));
      }
      let [a, b, c, d, e, f, g, h] = state;
      for (let i = 0; i < 64; i += 1) {
        const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUND[i] + w[i]) | 0;
        const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
      }
      [a, b, c, d, e, f, g, h].forEach((x, i) => { state[i] = (state[i] + x) | 0; });
    }
    const out = new DataView(new ArrayBuffer(32));
    state.forEach((x, i) => out.setInt32(i * 4, x));
    return new Uint8Array(out.buffer);
  };
  const utf8 = (text) => new TextEncoder().encode(text);
  const hex = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
  const joined = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));
  const hmac = (key, message) => {
    const block = new Uint8Array(64);
    block.set(key.length > 64 ? sha256(key) : key);
    const inner = sha256(joined(block.map((b) => b ^ 0x36), message));
    return sha256(joined(block.map((b) => b ^ 0x5c), inner));
  };

  // --- who votes, and what is answered ----------------------------------------------------------
  let code = "", person = "", plan = [], votes = [], at = 0; // votes[at] = [trial, question, side, ms]
  const total = () => plan.length * data.questions.length;
  const store = () => `rerender-study-${data.study}-${person}`;
  const plain = (text) => text.toLowerCase().replace(/[^0-9a-z]/g, "").replaceAll("o", "0").replace(/[il]/g, "1");

  const sound = (found) => Array.isArray(found) && found.length <= total() && found.every((vote, i) =>
    Array.isArray(vote) && vote.length === 4 && vote[0] === Math.floor(i / data.questions.length)
    && vote[1] === data.questions[i % data.questions.length][0]
    && (vote[2] === "left" || vote[2] === "right") && Number.isInteger(vote[3]) && vote[3] >= 0);
  const load = () => {
    try {
      const found = JSON.parse(localStorage.getItem(store()) || "[]");
      votes = sound(found) ? found : [];
    } catch { votes = []; }
    at = votes.length;
  };
  const keep = () => {
    try { localStorage.setItem(store(), JSON.stringify(votes)); } catch { $("forgetful").hidden = false; }
  };
  const known = (typed) => {
    const id = hex(sha256(utf8(`rerender study ${typed}`))).slice(0, 16);
    return people.has(id) ? id : null;
  };
  const enter = (typed) => {
    const id = known(plain(typed));
    $("refused").hidden = id !== null;
    if (id === null) return false;
    code = plain(typed);
    person = id;
    plan = people.get(id);
    load();
    return true;
  };

  // --- the two videos in step -------------------------------------------------------------------
  let trial = -1, watched = new Set(), wanted = true, since = 0, ready = false;
  const show = (number) => {
    trial = number;
    ready = false;
    const [clip, left, right] = plan[number];
    const about = data.clips[clip];
    $("prompt").textContent = about.prompt ? `“${about.prompt}”` : "";
    $("pair").className = `pair${about.wide ? " wide" : ""}${about.source === null ? "" : " three"}`;
    $("original").hidden = about.source === null;
    $("broken").hidden = true;
    [left, right, about.source].forEach((film, i) => {
      if (film === null) films[i].removeAttribute("src"); else films[i].src = data.films[film];
      films[i].load();
    });
    wanted = true;
    label();
  };
  const label = () => { $("play").textContent = wanted ? "Pause" : "Play"; };
  const begin = () => { for (const film of shown()) { film.currentTime = 0; if (wanted) film.play().catch(() => {}); } };
  const loaded = () => {
    if (ready || !shown().every((film) => film.readyState >= 3)) return;
    ready = true;
    since = performance.now();
    begin();
    requestAnimationFrame(tick);
  };
  const tick = () => {
    if (!ready || $("trial").hidden) return;
    const all = shown();
    if (all.every((film) => film.ended || film.currentTime >= film.duration - 0.001)) {
      watched.add(trial);
      permit();
      begin();
    } else if (wanted) {
      for (const film of all.slice(1)) {
        if (!film.seeking && !all[0].seeking && Math.abs(film.currentTime - all[0].currentTime) > 0.06) film.currentTime = all[0].currentTime;
      }
      for (const film of all) if (film.paused && !film.ended) film.play().catch(() => {});
    }
    requestAnimationFrame(tick);
  };
  const pause = () => {
    wanted = !wanted;
    for (const film of shown()) { if (wanted) film.play().catch(() => {}); else film.pause(); }
    label();
  };
  for (const film of films) {
    film.addEventListener("canplay", loaded);
    film.addEventListener("error", () => { if (film.getAttribute("src")) $("broken").hidden = false; });
  }

  // --- screens ----------------------------------------------------------------------------------
  const screen = (name) => { for (const id of ["welcome", "trial", "done"]) $(id).hidden = id !== name; };
  const permit = () => {
    const free = watched.has(trial) || at < votes.length;
    for (const [id, side] of [["left", "left"], ["right", "right"]]) {
      $(id).disabled = !free;
      $(id).setAttribute("aria-pressed", String(at < votes.length && votes[at][2] === side));
    }
    $("wait").textContent = free ? "" : "Watch both to the end first.";
    $("back").disabled = at === 0;
  };
  const next = () => {
    if (at >= total()) { finish(); return; }
    const number = Math.floor(at / data.questions.length);
    screen("trial");
    if (number !== trial) show(number);
    $("question").textContent = data.questions[at % data.questions.length][1];
    $("place").textContent = `${number + 1} of ${plan.length}`;
    $("progress").max = total();
    $("progress").value = at;
    since = performance.now();
    permit();
  };
  const answer = (side) => {
    if ($("trial").hidden || $(side).disabled) return;
    const spent = Math.min(Math.round(performance.now() - since), 2 ** 31);
    votes[at] = [Math.floor(at / data.questions.length), data.questions[at % data.questions.length][0], side, spent];
    at += 1;
    keep();
    next();
  };
  const back = () => {
    if (at === 0) return;
    at -= 1;
    next();
  };
  let address = null;
  const finish = () => {
    for (const film of films) film.pause();
    trial = -1;
    screen("done");
    const lines = [data.format, data.study, person, ...votes.map((vote) => vote.join(" "))];
    const seal = hex(hmac(utf8(code), utf8(lines.join("\n"))));
    const text = `${JSON.stringify({ format: data.format, study: data.study, person, votes, seal })}\n`;
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    $("save").href = address;
    $("save").download = `votes-${data.study}-${person}.json`;
    $("text").value = text;
    $("save").focus();
  };

  // --- wiring -----------------------------------------------------------------------------------
  $("left").addEventListener("click", () => answer("left"));
  $("right").addEventListener("click", () => answer("right"));
  $("back").addEventListener("click", back);
  $("revise").addEventListener("click", back);
  $("play").addEventListener("click", pause);
  $("again").addEventListener("click", begin);
  $("invite").addEventListener("submit", (event) => {
    event.preventDefault();
    if (enter($("code").value)) next(); else $("code").focus();
  });
  document.addEventListener("keydown", (event) => {
    if ($("trial").hidden || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.target.matches("button") && (event.key === " " || event.key === "Enter")) return;
    const act = {
      1: () => answer("left"), a: () => answer("left"), ArrowLeft: () => answer("left"),
      2: () => answer("right"), b: () => answer("right"), ArrowRight: () => answer("right"),
      " ": pause, r: begin, Backspace: back,
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  const trials = Math.max(0, ...[...people.values()].map((each) => each.length));
  $("count").textContent = String(trials);
  const typed = decodeURIComponent(location.hash.slice(1).replace(/%(?![0-9a-fA-F]{2})/g, ""));
  screen("welcome");
  if (typed) {
    $("code").value = typed;
    if (enter(typed) && votes.length) $("begin").textContent = votes.length < total() ? "Go on" : "Open";
  }
})();

// The page: which clip, which run, and what is known of them. All of it stands at the studio; a page that
// is loaded again, or a second one, shows the same.
import { $, call, el, time, upload } from "/static/api.js";
import { Brush } from "/static/mask.js";
import { Form } from "/static/form.js";
import { Next } from "/static/next.js";
import { Preview } from "/static/preview.js";
import { Viewer } from "/static/viewer.js";

const WORDS = { waiting: "Waiting for another run", running: "Working", done: "Done", failed: "Refused", stopped: "Stopped" };
const viewer = new Viewer(), brush = new Brush();
let form, preview, next, clip = null, plan = null, runs = [], current = null, sides = ["source", null], planning = 0, drawn = "";

function complain(error) {
  $("notice").hidden = !error;
  $("notice").textContent = error ? error.message : "";
}

// -- clips ------------------------------------------------------------------------------------------

async function home() {
  clip = current = null;
  preview.forget();
  history.replaceState(null, "", "/");
  $("start").hidden = false;
  $("work").hidden = true;
  $("clip-name").textContent = "";
  const clips = await call("/api/clips");
  $("recent").hidden = !clips.length;
  $("clips").replaceChildren(...clips.map((each) => {
    const made = el("button", { type: "button" }, el("img", { src: `/api/clips/${each.id}/frames/0?small`, alt: "", loading: "lazy" }),
      el("span", { textContent: each.name }), el("small", { textContent: `${each.frames} frames, ${each.width}×${each.height}` }));
    made.addEventListener("click", () => open(each).catch(complain));
    return made;
  }));
}

async function open(found) {
  clip = found;
  plan = current = null;
  sides = ["source", null];
  history.replaceState(null, "", `#${clip.id}`);
  preview.forget();
  complain(null);
  $("start").hidden = true;
  $("work").hidden = false;
  $("clip-name").textContent = `${clip.name} · ${clip.frames} frames · ${clip.width}×${clip.height}`;
  document.title = `${clip.name} · Rerender studio`;
  viewer.open(clip);
  drawn = "";
  await refresh();
  if (runs.length) {
    select(runs[0].id);
    form.take(runs[0].settings);
  } else changed();
}

async function send(file) {
  if (!file) return;
  complain(null);
  if (file.size > form.about.largest) {
    $("file").value = "";
    return complain(new Error(`${file.name}: is larger than ${Math.round(form.about.largest / 2 ** 20)} MiB; cut it, or start the studio with --largest MIB`));
  }
  const bar = $("uploading");
  bar.hidden = false;
  $("limit").textContent = `Sending ${file.name}`;
  try {
    const found = await upload(file, (share) => {
      bar.value = share;
      if (share === 1) $("limit").textContent = "Looking through every frame";
    });
    await open(found);
  } catch (error) {
    complain(error);
  } finally {
    bar.hidden = true;
    bar.value = 0;
    $("file").value = "";
    limit();
  }
}

const limit = () => { $("limit").textContent = `It stays on this machine. Up to ${Math.round(form.about.largest / 2 ** 20)} MiB.`; };

// -- runs -------------------------------------------------------------------------------------------

const label = (run) => `${run.settings.prompt} · ${run.settings.preset ?? "fast"} · ${run.id.slice(0, 4)}`;
const offset = (run) => run.settings.start ?? 0;

function side(name) {
  if (name === "preview") return { label: preview.label, url: (frame) => preview.url(frame), span: () => preview.span };
  if (name === "source") return { label: "Source", url: (frame) => `/api/clips/${clip.id}/frames/${frame}` };
  const run = runs.find((each) => each.id === name);
  if (!run) return null;
  return { label: label(run), url: (frame) => {
    const number = frame - offset(run);
    if (number < 0 || (run.settings.frames && number >= run.settings.frames)) return null;
    if (run.state === "done") return `/api/runs/${run.id}/frames/${number}?t=${run.time}`;
    return run.keys.includes(number) ? `/api/runs/${run.id}/keys/${number}?t=${run.time}` : null;
  } };
}

// A run that has nothing to show yet does not take the preview away.
function select(id) {
  current = id;
  if (sides[1] !== "preview" || runs.find((run) => run.id === id)?.keys.length) sides[1] = id;
  drawn = "";
  draw();
}

async function refresh() {
  if (!clip) return;
  const asked = clip.id, found = await call(`/api/runs?clip=${asked}`);
  if (clip?.id !== asked) return;
  const first = (run) => run?.keys.length > 0;
  const before = runs.find((run) => run.id === current);
  runs = found;
  const now = runs.find((run) => run.id === current);
  // The first key frame is shown at once; who mends one stands at it already.
  const come = now && !first(before) && first(now) && before?.clip === now.clip && !now.settings.keys;
  const arrived = now && ((!first(before) && first(now)) || (before?.state !== "done" && now.state === "done"));
  if (arrived && before?.id === now.id && sides[1] === "preview") sides[1] = current;
  draw();
  if (come && !viewer.timer) viewer.go(now.keys[0] + offset(now));
}

async function poll() {
  try {
    await refresh();
    if ($("notice").dataset.lost) { complain(null); delete $("notice").dataset.lost; }
  } catch (error) {
    $("notice").dataset.lost = "1";
    complain(error);
  }
  setTimeout(poll, busy() ? 600 : 2500);
}

async function start(settings) {
  $("refused").hidden = true;
  $("run").disabled = true;
  try {
    const run = await call("/api/runs", { method: "POST", json: settings });
    await refresh();
    select(run.id);
    if (window.innerWidth <= 900) $("stage").scrollIntoView({ behavior: "smooth", block: "start" });
  } catch (error) {
    $("refused").hidden = false;
    $("refused").textContent = error.message;
  } finally {
    $("run").disabled = false;
  }
}

const act = (path, method = "POST") => call(path, { method }).then(refresh).catch(complain);

// -- what is shown ------------------------------------------------------------------------------------

function draw() {
  const run = runs.find((each) => each.id === current) ?? null;
  const state = JSON.stringify([runs, current, sides, plan, preview.id, preview.count]);
  if (state === drawn) return;
  drawn = state;
  drawSides();
  drawCurrent(run);
  drawKeys(run);
  drawMend();
  next.draw(run, run ? offset(run) : 0);
  drawResult(run);
  drawHistory();
}

function drawSides() {
  for (const [number, id] of [[0, "side-a"], [1, "side-b"]]) {
    const known = sides[number] === "source" || (sides[number] === "preview" && preview.id) || runs.some((run) => run.id === sides[number]);
    if (!known) sides[number] = number ? null : "source";
    const choices = [["source", "Source"], ...(preview.id ? [["preview", preview.label]] : []), ...runs.map((run) => [run.id, label(run)])];
    if (number) choices.unshift(["", "—"]);
    $(id).replaceChildren(...choices.map(([value, text]) => el("option", { value, textContent: text })));
    $(id).value = sides[number] ?? "";
  }
  viewer.setSides(side(sides[0]), sides[1] ? side(sides[1]) : null);
}

function drawCurrent(run) {
  $("current").hidden = !run;
  if (!run) return;
  const busy = run.state === "running" || run.state === "waiting";
  const { translate, propagate } = run.stages;
  const share = (stage) => (stage ? stage[0] / stage[1] : 0);
  const step = !translate && !propagate ? "getting ready" : propagate && share(translate) === 1
    ? `filling frames, ${propagate[0]} of ${propagate[1]}` : `key frames, ${run.keys.length} ready`;
  $("run-state").textContent = WORDS[run.state];
  $("run-state").className = `${run.state}-word`;
  const left = run.left === null ? "" : ` · about ${time(run.left)} left`;
  $("run-left").textContent = run.state === "running" ? step + left : label(run);
  $("run-bar").hidden = run.state !== "running";
  if (translate || propagate) $("run-bar").value = 0.7 * share(translate) + 0.3 * share(propagate);
  else $("run-bar").removeAttribute("value");
  $("cancel").hidden = !busy;
  $("resume").hidden = run.state !== "stopped" && run.state !== "failed";
  $("run-message").hidden = run.state !== "failed";
  $("run-message").textContent = run.message;
  $("run-notes").hidden = !run.warnings.length;
  $("run-notes").firstElementChild.textContent = `${run.warnings.length} notes of the run`;
  $("run-notes").lastElementChild.replaceChildren(...run.warnings.map((text) => el("li", { textContent: text })));
}

function drawKeys(run) {
  const shots = run ? null : plan?.shots;
  const planned = plan?.shots?.flat() ?? [];
  const same = run && plan?.id === run.id;
  const keys = run && !same ? run.keys.map((key) => key + offset(run)) : planned;
  const firsts = new Set((shots ?? plan?.shots ?? []).map((shot) => shot[0]));
  const done = new Set((run?.keys ?? []).map((key) => key + offset(run)));
  const next = run?.state === "running" ? keys.find((key) => !done.has(key)) : null;
  const count = plan?.shots ? `${planned.length} in ${plan.shots.length} ${plan.shots.length === 1 ? "shot" : "shots"}` : "";
  $("plan").textContent = run ? (keys.length ? `${done.size} of ${keys.length} ready` : "") : count;
  $("strip").replaceChildren(...keys.map((key, place) => {
    const ready = done.has(key);
    const src = ready ? `/api/runs/${run.id}/keys/${key - offset(run)}?t=${run.time}` : `/api/clips/${clip.id}/frames/${key}?small`;
    const name = [ready && "done", key === next && "next", place && firsts.has(key) && "shot", key === viewer.frame && "here"];
    const made = el("button", { type: "button", className: name.filter(Boolean).join(" ") },
      el("img", { src, alt: `Key frame ${key}` }), el("small", { textContent: key }));
    made.dataset.frame = key;
    made.addEventListener("click", () => { viewer.pause(); viewer.go(key); });
    return made;
  }));
  $("ticks").replaceChildren(...keys.map((key) => {
    const tick = el("i", { className: [done.has(key) && "done", firsts.has(key) && "shot"].filter(Boolean).join(" ") });
    tick.style.left = `${(key / Math.max(1, clip.frames - 1)) * 100}%`;
    return tick;
  }));
}

// The frame of a finished run that the viewer stands at, counted in the run; null where it stands at none.
function here() {
  const run = runs.find((each) => each.id === current);
  const frame = run?.state === "done" ? viewer.frame - offset(run) : -1;
  return frame >= 0 && !(run.settings.frames && frame >= run.settings.frames) ? frame : null;
}

function drawMend() {
  const frame = here();
  $("mend").hidden = frame === null;
  if (frame === null) return;
  const run = runs.find((each) => each.id === current), key = run.keys.includes(frame);
  $("mend-what").textContent = `${key ? "Key frame" : "Frame"} ${viewer.frame} is not right?`;
  $("mend-save").href = key ? `/api/runs/${current}/keys/${frame}?whole` : `/api/runs/${current}/frames/${frame}?whole`;
  $("mend-save").download = `frame-${String(frame).padStart(6, "0")}.png`;
}

function drawResult(run) {
  const ready = run?.state === "done", address = ready ? `/api/runs/${run.id}/video.mp4?t=${run.time}` : "";
  $("result").hidden = $("done").hidden = !ready;
  if ($("video").dataset.address === address) return;
  $("video").dataset.address = address;
  if (!ready) { $("video").removeAttribute("src"); $("video").load(); return; }
  $("video").src = address;
  $("download").href = `/api/runs/${run.id}/video.mp4?download`;
  $("sheet").href = `/api/runs/${run.id}/sheet.png`;
}

function drawHistory() {
  $("past").hidden = !runs.length;
  $("history").replaceChildren(...runs.map((run) => {
    const button = (text, act) => { const made = el("button", { type: "button", textContent: text }); made.addEventListener("click", act); return made; };
    const busy = run.state === "running" || run.state === "waiting";
    const picture = run.keys.length ? el("img", { src: `/api/runs/${run.id}/keys/${run.keys[0]}?t=${run.time}`, alt: "" }) : el("span", { className: "none" });
    const said = [run.settings.preset ?? "fast", run.settings.strength && `strength ${run.settings.strength}`, run.settings.mask && "masked", run.settings.keys && "mended",
      run.settings.ranges && `${run.settings.ranges.length} ranges`, new Date(run.time * 1000).toLocaleTimeString()];
    return el("li", { className: run.id === current ? "shown" : "" }, picture,
      el("div", {}, el("p", { textContent: run.settings.prompt, title: run.settings.prompt }),
        el("small", {}, el("b", { className: `${run.state}-word`, textContent: WORDS[run.state] }), ` · ${said.filter(Boolean).join(" · ")}`)),
      el("div", { className: "acts" }, button("Show", () => { select(run.id); form.take(run.settings); }),
        button("Compare", () => { sides[0] = run.id; draw(); $("stage").scrollIntoView({ block: "center" }); }),
        ...(busy ? [] : [button("Remove", () => act(`/api/runs/${run.id}`, "DELETE"))])));
  }));
}

// -- what is asked -----------------------------------------------------------------------------------

// Whatever changes in the form: which run it would be, its key frames, and whether it is refused.
function changed(how) {
  form.show();
  clearTimeout(planning);
  planning = setTimeout(() => ask().catch(complain), 250);
  const settings = clip && how !== "taken" && form.settings(clip); // a run that is there needs no preview
  if (settings?.prompt && !settings.keys && preview.on && !busy()) preview.ask(settings);
}

const busy = () => runs.some((run) => run.state === "running" || run.state === "waiting");

// A frame of the preview has come. The first one is what was asked for: it is shown.
function previewed(count) {
  if (count === 1 || sides[1] !== "preview") {
    sides[1] = "preview";
    const { first, planned } = preview; // who stands at a frame that will come stays there
    if (!viewer.timer && (viewer.frame < first || viewer.frame >= first + planned)) viewer.go(first);
  }
  draw();
}

// The plan of what the form says now; null where it is refused, which is said below the button.
async function ask() {
  clearTimeout(planning);
  if (!clip) return null;
  const settings = form.settings(clip), asked = settings.prompt ? settings : { ...settings, prompt: "nothing yet" };
  if (form.mask) $("mask-shown").src = `/api/clips/${clip.id}/masks/${form.mask}`;
  const found = await call("/api/plan", { method: "POST", json: asked });
  if (clip?.id !== asked.clip || JSON.stringify(form.settings(clip)) !== JSON.stringify(settings)) return null;
  $("refused").hidden = !found.refused;
  $("refused").textContent = found.refused ?? "";
  plan = found.refused ? null : found;
  if (!plan) return null;
  form.plan(plan);
  $("command").textContent = plan.command;
  const known = runs.find((run) => run.id === plan.id);
  if (known && settings.prompt && known.id !== current) select(known.id);
  draw();
  return plan;
}

function buttons() {
  $("home").addEventListener("click", () => home().catch(complain));
  $("file").addEventListener("change", () => send($("file").files[0]));
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    $("drop").addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
      if (name === "drop") send(event.dataTransfer.files[0]);
    });
  }
  $("form").addEventListener("submit", (event) => { event.preventDefault(); start(form.settings(clip)); });
  $("cancel").addEventListener("click", () => act(`/api/runs/${current}/cancel`));
  $("resume").addEventListener("click", () => start(runs.find((run) => run.id === current).settings));
  for (const [number, id] of [[0, "side-a"], [1, "side-b"]]) {
    $(id).addEventListener("change", () => { sides[number] = $(id).value || null; draw(); });
  }
  $("copy").addEventListener("click", async () => {
    if (!$("form").reportValidity() || !(await ask().catch(complain))) return;
    $("command").hidden = false;
    try { await navigator.clipboard.writeText($("command").textContent); $("copy").textContent = "Copied"; } catch { getSelection().selectAllChildren($("command")); }
    setTimeout(() => { $("copy").textContent = "Copy the command"; }, 1500);
  });
  $("yaml").addEventListener("click", async () => {
    const found = $("form").reportValidity() && (await ask().catch(complain));
    if (!found) return;
    const address = URL.createObjectURL(new Blob([found.yaml], { type: "application/yaml" }));
    el("a", { href: address, download: `${found.name}.yaml` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
  $("paint").addEventListener("click", () => {
    viewer.pause();
    viewer.go(Number($("first").value));
    viewer.setSides(side("source"), null);
    brush.open(clip);
    $("stage").scrollIntoView({ block: "nearest" });
  });
  $("brush-cancel").addEventListener("click", () => { brush.show(false); drawSides(); });
  $("brush-use").addEventListener("click", async () => {
    try {
      form.mask = await brush.keep(clip);
      complain(null);
      brush.show(false);
      drawSides();
      changed();
    } catch (error) { complain(error); }
  });
  $("by-hand-remove").addEventListener("click", () => { form.keys = null; changed(); });
  $("mend-file").addEventListener("change", async () => {
    const file = $("mend-file").files[0], frame = here();
    if (!file || frame === null) return;
    try {
      complain(null);
      const settings = await call(`/api/runs/${current}/keys/${frame}`, { method: "POST", body: file });
      form.take(settings);
      await start(settings);
    } catch (error) { complain(error); } finally { $("mend-file").value = ""; }
  });
  $("mask-remove").addEventListener("click", () => { form.mask = null; brush.clear(); changed(); });
  viewer.listeners.push((frame) => {
    for (const made of $("strip").children) made.classList.toggle("here", Number(made.dataset.frame) === frame);
    drawMend();
  });
}

async function begin() {
  const about = await call("/api/about");
  form = new Form(about, changed);
  preview = new Preview(about, previewed);
  next = new Next((frame) => { viewer.pause(); viewer.go(frame); });
  $("live").addEventListener("change", () => { if ($("live").checked) changed(); else { preview.forget(); draw(); } });
  $("model").textContent = `model: ${about.model}`;
  limit();
  buttons();
  form.show();
  const asked = location.hash.slice(1);
  if (/^[0-9a-f]{16}$/.test(asked)) await open(await call(`/api/clips/${asked}`)).catch(home);
  else await home();
  poll();
}

begin().catch(complain);

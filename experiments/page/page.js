"use strict";
// The report page. All texts from the data go into the page as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const $ = (id) => document.getElementById(id);
  const PALETTE = ["#c2410c", "#2563a8", "#3f7d20", "#8b3fa0", "#b08900", "#0f8a8a", "#b3245c", "#6b6b6b"];
  const DASHES = [[], [9, 5], [2, 3], [9, 3, 2, 3]]; // px drawn, px left out; the next one when the colours are used up
  const SHOWN = 6, METHODS = 32; // videos shown at first: so many, but one of each method
  const LISTED = 60; // methods listed before one has to search
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const state = {
    clip: null, entries: [], shown: new Set(), frame: 0, playing: false,
    speed: 1, started: 0, from: 0, mode: "wipe", a: null, b: null, metric: null,
  };
  let plot = null;

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node[name] = value;
    node.append(...children);
    return node;
  };
  const fill = (select, options) => {
    select.replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text })));
  };
  const stroke = (entry) => {
    const index = state.entries.indexOf(entry);
    return { stroke: PALETTE[index % PALETTE.length], dash: DASHES[Math.floor(index / PALETTE.length) % DASHES.length] };
  };
  const sample = (entry) => { // of its line in the curves
    const node = make("i"), { stroke: color, dash } = stroke(entry);
    let end = 0;
    const stops = dash.map((length, index) => `${index % 2 ? "transparent" : color} ${end}px ${(end += length)}px`);
    node.style.background = stops.length ? `repeating-linear-gradient(90deg, ${stops})` : color;
    return node;
  };
  const shownEntries = () => state.entries.filter((entry) => state.shown.has(entry));
  const times = () => state.clip.times;
  const last = () => times().length - 1;
  const middle = (frame) => {
    const list = times();
    const end = frame < last() ? list[frame + 1] : state.clip.end;
    return (list[frame] + end) / 2;
  };
  const frameAt = (time) => {
    const list = times();
    let low = 0, high = list.length - 1;
    while (low < high) {
      const half = (low + high + 1) >> 1;
      if (list[half] <= time) low = half; else high = half - 1;
    }
    return low;
  };

  // --- what is shown ---------------------------------------------------------------------------
  const chooseClip = (index) => {
    pause();
    state.clip = data.clips[index];
    state.entries = data.entries.filter((entry) => entry.clip === state.clip.name);
    state.entries.forEach((entry) => { entry.video = entry.player = null; });
    const films = state.entries.filter((entry) => entry.file);
    const first = films.filter((entry) => entry === films.find((other) => other.method === entry.method)).slice(0, METHODS);
    const more = films.filter((entry) => !first.includes(entry));
    state.shown = new Set([...first, ...more.slice(0, Math.max(SHOWN - first.length, 0))]);
    state.frame = 0;
    $("prompt").textContent = state.clip.prompt ? `“${state.clip.prompt}”` : "";
    $("scrub").max = last();
    const options = films.map((entry) => [String(state.entries.indexOf(entry)), entry.label]);
    fill($("a"), options);
    fill($("b"), options);
    state.a = films[0] || null;
    state.b = films.find((entry) => !entry.floor) || films[1] || films[0] || null;
    const names = [...new Set(state.entries.flatMap((entry) => Object.keys(entry.curves)))].sort();
    fill($("metric"), names.map((name) => [name, data.metrics[name]?.label || name]));
    state.metric = names.includes(state.metric) ? state.metric : names.includes("warp_error") ? "warp_error" : names[0] || null;
    if (state.metric) $("metric").value = state.metric;
    $("metric").disabled = !state.metric;
    rebuild();
  };

  const rebuild = () => {
    buildChips();
    buildPlayers();
    buildPictures();
    syncPair();
    drawPlot();
    setFrame(state.frame);
  };

  const buildChips = () => {
    const wanted = $("filter").value.trim().toLowerCase();
    const found = state.entries.filter((entry) => entry.label.toLowerCase().includes(wanted));
    const listed = found.slice(0, LISTED);
    $("methods").replaceChildren(...listed.map((entry) => {
      const pressed = state.shown.has(entry);
      const chip = make("button", { className: "chip", type: "button", disabled: !entry.file }, sample(entry),
        make("span", { textContent: entry.file ? entry.label : `${entry.label} (no video)` }));
      chip.setAttribute("aria-pressed", String(pressed));
      chip.addEventListener("click", () => {
        if (state.shown.has(entry)) state.shown.delete(entry); else state.shown.add(entry);
        const keep = [...$("methods").children].indexOf(chip);
        rebuild();
        $("methods").children[keep]?.focus();
      });
      return chip;
    }));
    $("filter-label").hidden = state.entries.length <= 8;
    $("more").textContent = found.length > listed.length
      ? `${listed.length} of ${found.length} methods are listed; type a part of a name to find the others.` : "";
  };

  const buildPlayers = () => {
    const wanted = new Set([...shownEntries(), state.a, state.b].filter(Boolean));
    for (const entry of state.entries) {
      if (!wanted.has(entry) && entry.video) { entry.video.removeAttribute("src"); entry.video.load(); entry.video = null; }
      if (wanted.has(entry) && !entry.video) {
        const video = make("video", { muted: true, playsInline: true, preload: "auto", src: entry.file });
        video.disablePictureInPicture = true;
        video.setAttribute("aria-label", entry.label);
        video.classList.toggle("crisp", entry.small);
        video.addEventListener("seeked", drawPair);
        video.addEventListener("loadeddata", () => { video.currentTime = middle(state.frame); });
        entry.video = video;
      }
    }
    $("players").replaceChildren(...shownEntries().map((entry) => make("figure", {}, entry.video,
      make("figcaption", {}, sample(entry), make("span", { textContent: entry.label })))));
  };

  const buildPictures = () => {
    const shown = shownEntries();
    $("slices").replaceChildren(...shown.filter((entry) => entry.slice).map((entry) => {
      const box = make("div", { className: "slice" }, make("img", { src: entry.slice, alt: `Middle row of ${entry.label} over time`, loading: "lazy" }), make("b"));
      box.addEventListener("click", (event) => {
        const place = event.clientY - box.getBoundingClientRect().top;
        pause();
        setFrame(Math.floor((place / box.clientHeight) * (last() + 1)));
      });
      return make("figure", {}, box, make("figcaption", {}, sample(entry), make("span", { textContent: entry.label })));
    }));
    $("sheets").replaceChildren(...shown.filter((entry) => entry.sheet).map((entry) => make("figure", {},
      make("img", { src: entry.sheet, alt: `Frames of ${entry.label}`, loading: "lazy" }),
      make("figcaption", {}, sample(entry), make("span", { textContent: entry.label })))));
    const maps = shown.flatMap((entry) => Object.entries(entry.maps).map(([name, files]) => ({ entry, name, files })));
    $("maps-section").hidden = maps.length === 0;
    $("maps").replaceChildren(...maps.map(({ entry, name, files }) => {
      const image = make("img", { alt: `${name} of ${entry.label}` });
      image.classList.toggle("crisp", entry.small);
      const caption = make("span");
      const figure = make("figure", {}, image, make("figcaption", {}, sample(entry), caption));
      figure.update = () => {
        const [number, file] = files.findLast(([frame]) => frame <= state.frame) || files[0];
        if (image.getAttribute("src") !== file) image.src = file;
        caption.textContent = `${name} ${number}, ${entry.label}`;
      };
      return figure;
    }));
  };

  // --- time --------------------------------------------------------------------------------------
  const setFrame = (frame, seek = true) => {
    state.frame = Math.min(Math.max(Math.round(frame) || 0, 0), last());
    $("scrub").value = state.frame;
    const text = `frame ${state.frame} of ${last()}, ${times()[state.frame].toFixed(2)} s`;
    $("at").textContent = text;
    $("scrub").setAttribute("aria-valuetext", text);
    const part = `${(100 * (state.frame + 0.5)) / (last() + 1)}%`;
    for (const line of document.querySelectorAll(".slice b")) line.style.top = part;
    for (const figure of $("maps").children) figure.update();
    if (seek) for (const entry of state.entries) if (entry.video?.readyState) entry.video.currentTime = middle(state.frame);
    plot?.redraw(false);
    drawPair();
  };

  const videos = () => state.entries.map((entry) => entry.video).filter(Boolean);
  const play = () => {
    if (!videos().length) return;
    if (state.frame === last()) setFrame(0);
    state.playing = true;
    state.from = times()[state.frame];
    state.started = performance.now();
    $("play").textContent = "Pause";
    for (const video of videos()) { video.playbackRate = state.speed; video.currentTime = state.from; video.play().catch(() => {}); }
    requestAnimationFrame(tick);
  };
  const pause = () => {
    if (!state.playing) return;
    state.playing = false;
    $("play").textContent = "Play";
    for (const video of videos()) video.pause();
    setFrame(state.frame);
  };
  const tick = (now) => {
    if (!state.playing) return;
    const time = state.from + ((now - state.started) / 1000) * state.speed;
    if (time >= state.clip.end) {
      if (!$("loop").checked) { setFrame(last(), false); pause(); return; }
      setFrame(0, false);
      state.playing = false;
      play();
      return;
    }
    const step = (state.clip.end - times()[0]) / (last() + 1);
    for (const video of videos()) {
      if (Math.abs(video.currentTime - time) > Math.max(1.5 * step, 0.08) && !video.seeking) video.currentTime = time;
      if (video.paused && !video.ended) video.play().catch(() => {});
    }
    const frame = frameAt(time);
    if (frame !== state.frame) setFrame(frame, false); else drawPair();
    requestAnimationFrame(tick);
  };
  const step = (by) => { pause(); setFrame(state.frame + by); };

  // --- two of them -------------------------------------------------------------------------------
  const syncPair = () => {
    $("a").value = String(state.entries.indexOf(state.a));
    $("b").value = String(state.entries.indexOf(state.b));
    $("wipe-label").hidden = state.mode !== "wipe";
    $("compare").closest("section").hidden = !state.a;
  };
  const drawPair = () => {
    const canvas = $("compare"), first = state.a?.video, second = state.b?.video;
    if (!first || !second || first.readyState < 2 || second.readyState < 2) return;
    const width = Math.max(first.videoWidth, second.videoWidth), height = Math.max(first.videoHeight, second.videoHeight);
    if (canvas.width !== width || canvas.height !== height) { 
      canvas.width = width;
      canvas.height = height;
      canvas.classList.toggle("crisp", width < 400);
      canvas.style.width = `${(34 * width) / height}rem`; // at most 34rem high, whatever the aspect
      canvas.style.aspectRatio = `${width} / ${height}`;
    }
    const pen = canvas.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.drawImage(first, 0, 0, width, height);
    if (state.mode === "difference") {
      pen.globalCompositeOperation = "difference";
      pen.drawImage(second, 0, 0, width, height);
      pen.globalCompositeOperation = "lighter"; // twice doubled: four times
      pen.drawImage(canvas, 0, 0);
      pen.drawImage(canvas, 0, 0);
      return;
    }
    const edge = Math.round((width * $("wipe").value) / 1000);
    pen.save();
    pen.beginPath();
    pen.rect(edge, 0, width - edge, height);
    pen.clip();
    pen.drawImage(second, 0, 0, width, height);
    pen.restore();
    pen.fillStyle = "#ffffff";
    pen.fillRect(edge - 0.5, 0, Math.max(1, width / 400), height);
  };
  const setMode = (mode) => { state.mode = mode; $("mode").value = mode; syncPair(); drawPair(); };
  const setPair = (a, b) => { state.a = a || state.a; state.b = b || state.b; buildPlayers(); syncPair(); drawPair(); };

  // --- curves ------------------------------------------------------------------------------------
  const drawPlot = () => {
    plot?.destroy();
    plot = null;
    const drawn = shownEntries().filter((entry) => entry.curves[state.metric]?.some((value) => value !== null));
    const about = data.metrics[state.metric];
    $("plot-note").textContent = !state.metric ? "No metric has a value for each frame."
      : `${about.better} is better${about.unit ? `, in ${about.unit}` : ""}. Click a place in the curve to go there.`
        + (drawn.length ? "" : " None of the shown methods has this curve.");
    if (!drawn.length) return;
    const length = Math.max(...drawn.map((entry) => entry.curves[state.metric].length));
    const x = Array.from({ length }, (_, frame) => frame);
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink"), line = style.getPropertyValue("--line"), accent = style.getPropertyValue("--accent");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    plot = new uPlot({
      width: $("plot").clientWidth, height: 256, legend: { show: false }, scales: { x: { time: false } },
      cursor: { drag: { x: false, y: false } },
      axes: [{ ...axis, label: "frame", labelSize: 20 }, { ...axis, size: 70, values: (_, ticks) => ticks.map((tick) => Number(tick.toPrecision(6)).toString()) }],
      series: [{}, ...drawn.map((entry) => ({ ...stroke(entry), width: 2, points: { show: length < 3 } }))],
      hooks: {
        draw: [(u) => {
          const at = Math.round(u.valToPos(state.frame, "x", true));
          u.ctx.save();
          u.ctx.fillStyle = accent;
          u.ctx.fillRect(at - 1, u.bbox.top, 2, u.bbox.height);
          u.ctx.restore();
        }],
      },
    }, [x, ...drawn.map((entry) => x.map((_, frame) => entry.curves[state.metric][frame] ?? null))], $("plot"));
    plot.over.addEventListener("click", (event) => { pause(); setFrame(plot.posToVal(event.offsetX, "x")); });
  };

  // --- wiring --------------------------------------------------------------------------------------
  $("clip").addEventListener("change", (event) => chooseClip(Number(event.target.value)));
  $("filter").addEventListener("input", buildChips);
  $("back").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("play").addEventListener("click", () => (state.playing ? pause() : play()));
  $("scrub").addEventListener("input", (event) => { pause(); setFrame(Number(event.target.value)); });
  $("speed").addEventListener("change", (event) => {
    const playing = state.playing;
    pause();
    state.speed = Number(event.target.value);
    if (playing) play();
  });
  $("a").addEventListener("change", (event) => setPair(state.entries[event.target.value], null));
  $("b").addEventListener("change", (event) => setPair(null, state.entries[event.target.value]));
  $("mode").addEventListener("change", (event) => setMode(event.target.value));
  $("metric").addEventListener("change", (event) => { state.metric = event.target.value; drawPlot(); });
  $("wipe").addEventListener("input", drawPair);
  const drag = (event) => {
    const box = $("compare").getBoundingClientRect();
    $("wipe").value = (1000 * (event.clientX - box.left)) / box.width;
    drawPair();
  };
  $("compare").addEventListener("pointerdown", (event) => { $("compare").setPointerCapture(event.pointerId); drag(event); });
  $("compare").addEventListener("pointermove", (event) => { if (event.buttons & 1) drag(event); });
  dark.addEventListener("change", drawPlot);
  let waiting = 0;
  new ResizeObserver(() => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => plot?.setSize({ width: $("plot").clientWidth, height: 256 }));
  }).observe($("plot"));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const target = event.target;
    const own = target.matches("select, input[type=search], textarea")
      || (target.matches("input[type=range]") && event.key.startsWith("Arrow"))
      || (target.matches("button, summary, input[type=checkbox]") && event.key === " ");
    if (own) return;
    const jump = event.shiftKey ? 10 : 1;
    const shown = shownEntries();
    const act = {
      " ": () => (state.playing ? pause() : play()),
      ArrowLeft: () => step(-jump), ArrowRight: () => step(jump),
      Home: () => step(-Infinity), End: () => step(Infinity),
      w: () => setMode("wipe"), d: () => setMode("difference"), x: () => setPair(state.b, state.a),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key]
      || (/^[1-9]$/.test(event.key) && shown[event.key - 1] && (() => setPair(null, shown[event.key - 1])));
    if (!act) return;
    event.preventDefault();
    act();
  });

  viewer.hidden = false;
  fill($("clip"), data.clips.map((clip, index) => [String(index), clip.name]));
  chooseClip(0);
})();

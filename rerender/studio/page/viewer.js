// The viewer: the same frame of two videos, one over the other, with a wipe between them. Frames come
// from the studio one by one, so that both sides show exactly the same frame whatever codec a clip has.
import { $ } from "/static/api.js";

export class Viewer {
  constructor() {
    this.frame = 0;
    this.sides = [null, null]; // {label, url(frame) -> address or null}
    this.shown = ["", ""];
    this.wipe = 50;
    this.listeners = [];
    $("scrub").addEventListener("input", () => { this.pause(); this.go(Number($("scrub").value)); });
    $("play").addEventListener("click", () => (this.timer ? this.pause() : this.play()));
    const handle = $("wipe");
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = $("stage").getBoundingClientRect();
      this.setWipe(((event.clientX - box.left) / box.width) * 100);
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -2, ArrowRight: 2, Home: -100, End: 100 }[event.key];
      if (step) { event.preventDefault(); this.setWipe(this.wipe + step); }
    });
    new ResizeObserver(() => this.shape()).observe($("stage").parentElement);
    window.addEventListener("resize", () => this.shape());
  }

  open(clip) {
    this.pause();
    this.clip = clip;
    $("scrub").max = clip.frames - 1;
    this.shown = ["", ""];
    this.shape();
    this.go(0);
  }

  // As large as the column and the window allow, in the clip's own shape.
  shape() {
    if (!this.clip) return;
    const ratio = this.clip.width / this.clip.height;
    const room = $("stage").parentElement.clientWidth - 28;
    const width = Math.min(room, ratio * Math.max(240, window.innerHeight * 0.58));
    $("stage").style.width = `${width}px`;
    $("stage").style.height = `${width / ratio}px`;
    document.documentElement.style.setProperty("--shape", `${this.clip.width} / ${this.clip.height}`);
  }

  setSides(left, right) {
    this.sides = [left, right];
    this.draw();
  }

  go(frame) {
    this.frame = Math.max(0, Math.min(frame, this.clip.frames - 1));
    $("scrub").value = this.frame;
    const seconds = this.frame / this.clip.rate;
    $("counter").textContent = `${this.frame} / ${this.clip.frames - 1} · ${seconds.toFixed(2)} s`;
    this.draw();
    for (const listener of this.listeners) listener(this.frame);
  }

  draw() {
    if (!this.clip) return;
    for (const [number, layer] of [[0, "a"], [1, "b"]]) {
      const side = this.sides[number];
      const url = side && side.url(this.frame);
      const image = $(`layer-${layer}`), tag = $(`tag-${layer}`);
      tag.hidden = !side;
      if (side) tag.textContent = url ? side.label : `${side.label}: no frame here yet`;
      image.hidden = !url;
      if (url && url !== this.shown[number]) this.load(number, image, url);
    }
    const both = !$("layer-a").hidden && !$("layer-b").hidden;
    $("wipe").hidden = !both;
    this.setWipe(this.wipe);
  }

  // The old frame stays until the new one is there; what came too late is not shown.
  async load(number, image, url) {
    this.shown[number] = url;
    const next = new Image();
    next.src = url;
    try { await next.decode(); } catch { if (this.shown[number] === url) this.shown[number] = ""; return; }
    if (this.shown[number] === url) image.src = url;
  }

  setWipe(percent) {
    this.wipe = Math.max(0, Math.min(100, percent));
    const handle = $("wipe");
    handle.style.left = `${this.wipe}%`;
    handle.setAttribute("aria-valuenow", Math.round(this.wipe));
    $("layer-b").style.clipPath = handle.hidden ? "none" : `inset(0 0 0 ${this.wipe}%)`;
  }

  // Frames are left out rather than shown late: both sides keep the clip's own time.
  play() {
    const [first, stop] = this.sides[1]?.span?.() ?? [0, this.clip.frames]; // a preview has a few frames only
    const begun = performance.now(), from = this.frame < first || this.frame >= stop - 1 ? first : this.frame;
    $("play").textContent = "❚❚";
    $("play").setAttribute("aria-label", "Pause");
    let waiting = false;
    this.timer = setInterval(async () => {
      if (waiting) return;
      const passed = Math.floor(((performance.now() - begun) / 1000) * this.clip.rate);
      const frame = first + ((from - first + passed) % Math.max(1, stop - first));
      const urls = this.sides.map((side) => side && side.url(frame)).filter(Boolean);
      waiting = true;
      await Promise.all(urls.map((url) => { const i = new Image(); i.src = url; return i.decode().catch(() => {}); }));
      waiting = false;
      if (this.timer) this.go(frame);
    }, 1000 / Math.min(this.clip.rate, 30));
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    $("play").textContent = "▶";
    $("play").setAttribute("aria-label", "Play");
  }
}

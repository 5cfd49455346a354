// The form: what the page asks for, as the settings that the studio knows.
import { $, el } from "/static/api.js";

const HINTS = {
  fast: "Half the steps, one pass per key frame: the first one soonest.",
  turbo: "For models and LoRAs made for few steps, such as LCM.",
  one_pass: "All four constraints, pixel fusion without its second pass.",
  paper: "All four constraints as in the paper. Slower.",
  published: "The published program's own settings.",
  seed: "Key frames at cuts, blended with the source.",
};
const NAMES = { cross_frame: "Style (cross-frame)", color: "Colour", shape: "Shape", pixel: "Pixels" };
const NUMBERS = { frames: "frames", interval: "interval", size: "size" };

export class Form {
  constructor(about, changed) {
    this.changed = changed;
    this.about = about;
    this.preset = about.presets.includes("fast") ? "fast" : about.presets[0];
    this.reset();
    $("styles").hidden = !about.styles.length;
    $("styles").replaceChildren(...about.styles.map((style) => this.chip(style, () => this.addStyle(style))));
    $("presets").replaceChildren(...about.presets.map((name) => this.chip(name, () => {
      this.preset = name;
      this.show();
      changed();
    })));
    $("constraints").replaceChildren(...about.constraints.map((name) => this.chip(NAMES[name] || name, () => {
      const on = new Set(this.constraints ?? this.planned.constraints);
      if (!on.delete(name)) on.add(name);
      this.constraints = about.constraints.filter((each) => on.has(each));
      this.show();
      changed();
    })));
    $("constraints-reset").addEventListener("click", () => { this.constraints = null; this.show(); changed(); });
    $("strength").addEventListener("input", () => { this.strength = Number($("strength").value); this.show(); changed(); });
    $("range-add").addEventListener("click", () => { this.addRange({}); changed(); });
    for (const id of ["prompt", "negative", "first", "frames", "interval", "seed", "size", "cuts", "source-size", "score", "keep", "feather"]) {
      $(id).addEventListener("input", changed);
    }
  }

  reset() {
    this.strength = this.constraints = this.mask = this.keys = null;
    this.planned ??= { constraints: [] }; // as composed, once the studio has said it
  }

  chip(text, act) {
    const made = el("button", { type: "button", textContent: text });
    made.setAttribute("aria-pressed", "false");
    made.addEventListener("click", act);
    return made;
  }

  // A style replaces the one that the prompt names, so that trying styles is one press each.
  addStyle(style) {
    const words = $("prompt").value.split(/,\s*/).filter((part) => part && !this.about.styles.includes(part.trim()));
    const named = words.findIndex((part) => this.about.styles.some((each) => part.includes(each)));
    if (named < 0) words.push(style);
    else words[named] = this.about.styles.reduce((text, each) => text.replace(each, style), words[named]);
    $("prompt").value = words.join(", ");
    this.show();
    this.changed();
  }

  addRange(range) {
    const input = (name, type, label, value, wide = false) => {
      const made = el("input", { type, name, value: value ?? "", min: 0, step: name === "strength" ? 0.05 : 1 });
      made.setAttribute("aria-label", label);
      made.addEventListener("input", this.changed);
      return el("label", { className: wide ? "wide" : "" }, label, made);
    };
    const remove = el("button", { type: "button", className: "plain wide", textContent: "Remove this range" });
    const row = el("div", { className: "range" },
      input("first", "number", "From frame", range.first), input("last", "number", "To frame", range.last),
      input("fade", "number", "Fade", range.fade), input("prompt", "text", "Prompt", range.prompt, true),
      input("strength", "number", "Strength", range.strength), remove);
    row.querySelector("[name=strength]").max = 1;
    remove.addEventListener("click", () => { row.remove(); this.changed(); });
    $("ranges").append(row);
  }

  ranges() {
    return [...$("ranges").children].map((row) => {
      const value = (name) => row.querySelector(`[name=${name}]`).value.trim();
      const range = { first: Number(value("first")), last: Number(value("last")), prompt: value("prompt") };
      if (value("strength")) range.strength = Number(value("strength"));
      if (value("fade")) range.fade = Number(value("fade"));
      return range;
    }).filter((range, i) => range.prompt || [...$("ranges").children[i].querySelectorAll("input")].some((each) => each.value));
  }

  settings(clip) {
    const found = { clip: clip.id, prompt: $("prompt").value.replace(/\s+/g, " ").trim(), preset: this.preset };
    if ($("negative").value.trim()) found.negative_prompt = $("negative").value.trim();
    if (this.strength !== null) found.strength = this.strength;
    if (this.constraints !== null) found.constraints = this.constraints;
    if (Number($("first").value)) found.start = Number($("first").value);
    if (Number($("seed").value)) found.seed = Number($("seed").value);
    for (const [key, id] of Object.entries(NUMBERS)) if ($(id).value) found[key] = Number($(id).value);
    if ($("cuts").checked) found.cuts = true;
    if ($("source-size").checked) found.source_size = true;
    if ($("score").checked) found.score = true;
    if (this.mask) Object.assign(found, { mask: this.mask, keep: $("keep").value });
    if (this.mask && $("feather").value) found.feather = Number($("feather").value);
    if (this.keys) found.keys = this.keys;
    if (this.ranges().length) found.ranges = this.ranges();
    return found;
  }

  // Back to what a run was asked for.
  take(settings) {
    this.reset();
    this.preset = settings.preset ?? "fast";
    this.strength = settings.strength ?? null;
    this.constraints = settings.constraints ?? null;
    this.mask = settings.mask ?? null;
    this.keys = settings.keys ?? null;
    const values = { prompt: settings.prompt, negative: settings.negative_prompt, first: settings.start ?? 0, seed: settings.seed ?? 0,
      frames: settings.frames, interval: settings.interval, size: settings.size, keep: settings.keep ?? "outside", feather: settings.feather };
    for (const [id, value] of Object.entries(values)) $(id).value = value ?? "";
    $("cuts").checked = Boolean(settings.cuts);
    $("source-size").checked = Boolean(settings.source_size);
    $("score").checked = Boolean(settings.score);
    $("ranges").replaceChildren();
    for (const range of settings.ranges ?? []) this.addRange(range);
    this.show();
    this.changed("taken");
  }

  plan(planned) {
    this.planned = planned;
    this.show();
  }

  show() {
    const press = (id, on) => [...$(id).children].forEach((chip, i) => chip.setAttribute("aria-pressed", String(on(i))));
    const prompt = $("prompt").value.toLowerCase();
    press("styles", (i) => prompt.includes(this.about.styles[i]));
    press("presets", (i) => this.about.presets[i] === this.preset);
    const on = this.constraints ?? this.planned.constraints;
    press("constraints", (i) => on.includes(this.about.constraints[i]));
    $("constraints-reset").hidden = this.constraints === null;
    $("preset-hint").textContent = HINTS[this.preset] || "";
    const strength = this.strength ?? this.planned.strength;
    if (strength) $("strength").value = strength;
    $("strength-value").textContent = strength === undefined ? "" : strength === null ? "from noise" : strength.toFixed(2);
    if (this.planned.interval) $("interval").placeholder = this.planned.interval;
    if (this.planned.short_side) $("size").placeholder = this.planned.short_side;
    $("mask-more").hidden = $("mask-remove").hidden = $("mask-shown").hidden = !this.mask;
    $("mask-hint").hidden = Boolean(this.mask);
    $("by-hand").hidden = !this.keys;
    $("paint").textContent = this.mask ? "Paint again" : "Paint a mask";
  }
}

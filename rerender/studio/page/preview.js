// The live preview: the first frames of what the form says, small and in few steps, drawn again with
// every change. Frames are told of as they are made.
import { $, call } from "/static/api.js";

const QUIET = 120; // milliseconds without a further change after which it is asked for

export class Preview {
  constructor(about, shown) {
    this.shown = shown; // called with every frame that comes
    this.offered = about.preview;
    this.label = about.small ? "Preview · small, few steps" : "Preview";
    this.turn = this.waiting = 0;
    this.forget();
    $("live").checked = this.offered && localStorage.getItem("preview") !== "off";
    $("live").closest("label").hidden = !this.offered;
    $("live").addEventListener("change", () => localStorage.setItem("preview", $("live").checked ? "on" : "off"));
  }

  get on() { return this.offered && $("live").checked; }

  forget() {
    clearTimeout(this.waiting);
    this.turn += 1;
    this.id = null;
    this.first = this.count = this.planned = 0;
    this.say("");
  }

  say(text) { $("live-state").textContent = text; }

  url(frame) {
    const number = frame - this.first;
    return this.id && number >= 0 && number < this.count ? `/api/previews/${this.id}/frames/${number}` : null;
  }

  get span() { return [this.first, this.first + this.count]; }

  ask(settings) {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.make(settings), QUIET);
  }

  async make(settings) {
    const turn = (this.turn += 1), begun = performance.now();
    this.say("drawing …");
    try {
      const asked = await call("/api/previews", { method: "POST", json: settings });
      if (turn !== this.turn) return;
      if (asked.refused) return this.say("");
      for (let count = 0, end = null; end === null;) {
        const state = await call(`/api/previews/${asked.id}?after=${count}`);
        if (turn !== this.turn) return;
        if (state.end) return this.say(state.end === "stopped" ? "" : state.end);
        end = state.end;
        if (state.frames === count && end === null) continue;
        if (!count) this.say(`first frame after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
        count = state.frames;
        Object.assign(this, { id: asked.id, first: asked.first, planned: asked.frames, count });
        this.shown(count);
      }
    } catch (error) {
      if (turn === this.turn) this.say(error.message);
    }
  }
}

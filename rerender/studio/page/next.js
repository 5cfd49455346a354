// Which frame to paint next: where the source, carried from the key frames there are, says least.
import { $, call, el } from "/static/api.js";

export class Next {
  constructor(go) {
    this.go = go;
    this.known = {}; // of each run
    $("suggest").addEventListener("click", () => this.ask());
  }

  draw(run, offset) {
    Object.assign(this, { run, offset });
    $("next").hidden = run?.state !== "done";
    const found = (run?.state === "done" && this.known[run.id]) || [];
    $("suggested").hidden = !found.length;
    $("next-state").textContent = found.length ? "The most useful first. Go there, save it, paint it, put it in its place." : "";
    $("suggested").replaceChildren(...found.map((each) => {
      const made = el("button", { type: "button" },
        el("img", { src: `/api/runs/${run.id}/frames/${each.frame}?small&t=${run.time}`, alt: `Frame ${each.frame + offset}` }),
        el("small", { textContent: `${each.frame + offset} · ${each.gain >= 0 ? "+" : ""}${each.gain.toFixed(1)} dB` }));
      made.title = `Lies in frames ${each.first + offset} to ${each.last + offset}`;
      made.addEventListener("click", () => this.go(each.frame + offset));
      return made;
    }));
  }

  async ask() {
    const { run, offset } = this;
    $("suggest").disabled = true;
    $("next-state").textContent = "Looking …";
    try {
      this.known[run.id] = await call(`/api/runs/${run.id}/suggestions`);
      if (this.run?.id === run.id) this.draw(this.run, offset);
      if (!this.known[run.id].length) $("next-state").textContent = "Every frame is a key frame.";
    } catch (error) {
      $("next-state").textContent = error.message;
    } finally {
      $("suggest").disabled = false;
    }
  }
}

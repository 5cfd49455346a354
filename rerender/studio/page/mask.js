// The brush: white on black, at the size of the clip, over the first frame of its stretch.
import { $, call } from "/static/api.js";

const LONGEST = 2048; // pixels of the longer side; a mask is smooth

export class Brush {
  constructor() {
    this.canvas = $("brush");
    this.last = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.last = this.place(event);
      this.stroke(this.last);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.canvas.hasPointerCapture(event.pointerId)) this.stroke(this.place(event));
    });
    $("brush-clear").addEventListener("click", () => this.clear());
  }

  open(clip) {
    const scale = Math.min(1, LONGEST / Math.max(clip.width, clip.height));
    const width = Math.round(clip.width * scale), height = Math.round(clip.height * scale);
    if (this.clip !== clip.id) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.clip = clip.id;
    }
    this.show(true);
  }

  show(open) {
    this.canvas.hidden = $("brushes").hidden = !open;
  }

  clear() {
    this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height];
  }

  // On the page the mask is orange where it is painted and clear elsewhere.
  stroke(to) {
    const context = this.canvas.getContext("2d");
    const scale = this.canvas.width / this.canvas.getBoundingClientRect().width;
    context.globalCompositeOperation = $("brush-erase").checked ? "destination-out" : "source-over";
    context.strokeStyle = "#f2a65a";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = Number($("brush-size").value) * scale;
    context.beginPath();
    context.moveTo(...this.last);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    this.last = to;
  }

  // White where it is painted, as a PNG; returns its name at the studio.
  async keep(clip) {
    const sheet = document.createElement("canvas");
    sheet.width = this.canvas.width;
    sheet.height = this.canvas.height;
    const context = sheet.getContext("2d");
    const source = this.canvas.getContext("2d").getImageData(0, 0, sheet.width, sheet.height);
    for (let i = 0; i < source.data.length; i += 4) {
      const level = source.data[i + 3];
      source.data[i] = source.data[i + 1] = source.data[i + 2] = level;
      source.data[i + 3] = 255;
    }
    context.putImageData(source, 0, 0);
    const blob = await new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
    return (await call(`/api/clips/${clip.id}/masks`, { method: "POST", body: blob })).mask;
  }
}

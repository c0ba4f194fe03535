/** The mask on the stage, edited with a brush: by mouse, pen, finger or keyboard, with undo and redo. */
import { clamp, crop } from "./images.js";

const COLOUR = "#ff3b6b";
const KEY_STEP = 4;

export class MaskEditor {
  #context;
  #done = [];
  #undone = [];
  #stroke = null;
  #cursor = null;

  /**
   * `ring` is an element that shows where the brush is. `brush` gives { size, erase }, the size in pixels of the screen. `onChange`
   * is called after each stroke, undo and redo.
   */
  constructor(canvas, ring, brush, onChange) {
    Object.assign(this, { canvas, ring, brush, onChange });
    this.#context = canvas.getContext("2d", { willReadFrequently: true });
    canvas.tabIndex = 0;
    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button) return;
      canvas.setPointerCapture(event.pointerId);
      this.#begin(this.#place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      this.#show(this.#place(event));
      if (this.#stroke && event.isPrimary) for (const each of event.getCoalescedEvents?.() ?? [event]) this.#draw(this.#place(each));
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => this.#end());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const kind of ["pointerleave", "blur"]) canvas.addEventListener(kind, () => (ring.hidden = true));
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** Shows a mask of a photo { width, height, data }, shrunk to the canvas; there is nothing to undo then. */
  set({ width, height, data }) {
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const colour = new Uint32Array(new Uint8Array([255, 59, 107, 255]).buffer)[0];
    for (let i = 0; i < data.length; i++) if (data[i]) pixels[i] = colour;
    const whole = new OffscreenCanvas(width, height);
    whole.getContext("2d").putImageData(image, 0, 0);
    this.#context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.#context.drawImage(whole, 0, 0, this.canvas.width, this.canvas.height);
    this.#done = [];
    this.#undone = [];
    this.#cursor = null;
    this.onChange();
  }

  /** The mask for a photo of this size: a Uint8Array, 255 = hidden. */
  get(width, height) {
    const whole = new OffscreenCanvas(width, height);
    const context = whole.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.canvas, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    return Uint8Array.from({ length: width * height }, (_, i) => (data[4 * i + 3] > 127 ? 255 : 0));
  }

  undo() {
    this.#exchange(this.#done, this.#undone, "before");
  }

  redo() {
    this.#exchange(this.#undone, this.#done, "after");
  }

  #exchange(from, to, which) {
    const change = from.pop();
    if (!change) return;
    this.#context.putImageData(change[which], change.x, change.y);
    to.push(change);
    this.onChange();
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [x * this.canvas.width, y * this.canvas.height];
  }

  #begin(place) {
    const { width, height } = this.canvas;
    const { size, erase } = this.brush();
    this.#stroke = {
      whole: this.#context.getImageData(0, 0, width, height),
      size: (size * width) / this.canvas.getBoundingClientRect().width,
      last: place,
      low: place,
      high: place,
    };
    this.#context.globalCompositeOperation = erase ? "destination-out" : "source-over";
    this.#draw(place);
  }

  #draw(place) {
    const stroke = this.#stroke;
    const context = this.#context;
    context.strokeStyle = COLOUR;
    context.lineWidth = stroke.size;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(...stroke.last);
    context.lineTo(place[0] + 0.01, place[1]);
    context.stroke();
    stroke.low = stroke.low.map((x, k) => Math.min(x, place[k]));
    stroke.high = stroke.high.map((x, k) => Math.max(x, place[k]));
    stroke.last = place;
  }

  #end() {
    if (!this.#stroke) return;
    const { whole, size, low, high } = this.#stroke;
    this.#stroke = null;
    this.#context.globalCompositeOperation = "source-over";
    const limits = [this.canvas.width, this.canvas.height];
    const [x, y] = low.map((v, k) => clamp(Math.floor(v - size / 2) - 2, 0, limits[k] - 1));
    const [right, bottom] = high.map((v, k) => clamp(Math.ceil(v + size / 2) + 2, 1, limits[k]));
    const [width, height] = [Math.max(right - x, 1), Math.max(bottom - y, 1)];
    const before = crop({ width: whole.width, channels: 4, data: whole.data }, { x, y, width, height });
    this.#done.push({ x, y, before: new ImageData(before.data, width, height), after: this.#context.getImageData(x, y, width, height) });
    this.#undone = [];
    this.onChange();
  }

  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    const { width, height } = this.canvas;
    this.#cursor ??= [width / 2, height / 2];
    const distance = (KEY_STEP * (event.shiftKey ? 5 : 1) * width) / this.canvas.getBoundingClientRect().width;
    if (step) this.#cursor = this.#cursor.map((x, k) => clamp(x + step[k] * distance, 0, [width, height][k]));
    this.#show(this.#cursor);
    if (step) return;
    this.#begin(this.#cursor);
    this.#end();
  }

  /** Shows the brush at a place of the canvas, from where the keyboard moves it on. */
  #show(place) {
    this.#cursor = place;
    const side = `${this.brush().size}px`;
    const [left, top] = [place[0] / this.canvas.width, place[1] / this.canvas.height].map((part) => `${100 * part}%`);
    Object.assign(this.ring.style, { left, top, width: side, height: side });
    this.ring.hidden = false;
  }
}

/** Fast-marching inpainting (Telea, 2004), as OpenCV has it. */
import { clamp, copyImage, emptyImage, rint } from "./images.js";
import { dilate, ellipse } from "./morphology.js";

const [KNOWN, BAND, INSIDE] = [0, 1, 2];
const FAR = 1e6;
/** Of the neighbourhood of a point that is filled, in pixels. */
const RADIUS = 3;
const CROSS = [0, 1, 0];

/** Fills what a mask hides. */
export function telea(image, mask) {
  // With one more pixel on each side.
  const width = image.width + 2;
  const height = image.height + 2;
  const hidden = emptyImage(width, height);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) hidden.data[(y + 1) * width + x + 1] = mask.data[y * image.width + x] > 127 ? 255 : 0;
  }
  const isBorder = (i) => i % width === 0 || i % width === width - 1 || i < width || i >= width * (height - 1);
  const around = dilate(hidden, CROSS).data.map((value, i) => (value && !hidden.data[i] && !isBorder(i) ? 1 : 0));
  const states = hidden.data.map((value, i) => (value ? INSIDE : around[i] ? BAND : KNOWN));
  const times = new Float32Array(around).map((isAround) => (isAround ? 0 : FAR));

  // The distance outside the mask, with a negative sign.
  const outer = dilate(hidden, ellipse(2 * RADIUS + 1)).data;
  const outside = outer.map((value, i) => (around[i] ? BAND : value && !hidden.data[i] && !isBorder(i) ? INSIDE : KNOWN));
  const outerTimes = times.slice();
  march(outside, outerTimes, width, isBorder, () => {});
  outside.forEach((_, i) => {
    if (outer[i] && !hidden.data[i] && !around[i] && !isBorder(i)) times[i] = -outerTimes[i];
  });

  const result = copyImage(image);
  march(states, times, width, isBorder, (i) => fill(result, states, times, width, i));
  return result;
}

/** Goes from the band into what is inside, the nearest first; `visit` is called for each pixel, with its time known. */
function march(states, times, width, isBorder, visit) {
  const queue = new Queue();
  states.forEach((state, i) => state === BAND && queue.push(0, i));
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    states[at] = KNOWN;
    for (const next of [at - width, at - 1, at + width, at + 1]) {
      if (next < 0 || next >= states.length || isBorder(next) || states[next] !== INSIDE) continue;
      const pairs = [[-width, -1], [width, -1], [-width, 1], [width, 1]];
      times[next] = Math.min(...pairs.map(([a, b]) => arrival(states, times, next + a, next + b)));
      visit(next);
      states[next] = BAND;
      queue.push(times[next], next);
    }
  }
}

/** When the front arrives from two neighbours. */
function arrival(states, times, a, b) {
  const [first, second] = [times[a], times[b]];
  const least = Math.min(first, second);
  if (states[a] !== INSIDE && states[b] !== INSIDE) {
    return Math.abs(first - second) >= 1 ? 1 + least : (first + second + Math.sqrt(2 - (first - second) ** 2)) / 2;
  }
  if (states[a] !== INSIDE) return 1 + first;
  if (states[b] !== INSIDE) return 1 + second;
  return 1 + least;
}

/** The colour of a pixel from those around it that are known. */
function fill(image, states, times, width, at) {
  const x = at % width;
  const y = Math.floor(at / width);
  const known = (i) => states[i] !== INSIDE;
  /** Half the difference of what lies ahead and behind, or the whole difference to one side. */
  const slope = (value, i, step) => {
    if (known(i + step)) return known(i - step) ? (value(i + step) - value(i - step)) / 2 : value(i + step) - value(i);
    return known(i - step) ? value(i) - value(i - step) : 0;
  };
  const time = (i) => times[i];
  const gradient = [slope(time, at, 1), slope(time, at, width)];
  // The image has no border.
  const level = (i, c) => {
    const row = clamp(Math.floor(i / width) - 1, 0, image.height - 1);
    return image.data[(row * image.width + clamp((i % width) - 1, 0, image.width - 1)) * 3 + c];
  };
  for (let c = 0; c < 3; c++) {
    let [sum, across, down, weights] = [0, 0, 0, 1e-20];
    for (let v = y - RADIUS; v <= y + RADIUS; v++) {
      for (let u = x - RADIUS; u <= x + RADIUS; u++) {
        const i = v * width + u;
        if (u < 1 || v < 1 || u > image.width || v > image.height || !known(i)) continue;
        const [dx, dy] = [x - u, y - v];
        const squared = dx * dx + dy * dy;
        if (squared > RADIUS * RADIUS) continue;
        let direction = dx * gradient[0] + dy * gradient[1];
        if (Math.abs(direction) <= 0.01) direction = 0.000001;
        const weight = Math.abs((1 / (squared * Math.sqrt(squared))) * (1 / (1 + Math.abs(times[i] - times[at]))) * direction);
        const value = (j) => level(j, c);
        sum += weight * level(i, c);
        across -= weight * slope(value, i, 1) * dx;
        down -= weight * slope(value, i, width) * dy;
        weights += weight;
      }
    }
    // OpenCV adds a half before it rounds.
    const filled = sum / weights + (across + down) / (Math.sqrt(across * across + down * down) + 1e-20) + 0.5;
    image.data[((y - 1) * image.width + x - 1) * 3 + c] = clamp(rint(filled), 0, 255);
  }
}

/** A priority queue: the smallest key first, of equal ones the one that came first. */
class Queue {
  #heap = [];
  #count = 0;

  push(key, value) {
    const heap = this.#heap;
    const item = [key, this.#count++, value];
    let i = heap.push(item) - 1;
    for (let parent; i && before(item, heap[(parent = (i - 1) >> 1)]); i = parent) heap[i] = heap[parent];
    heap[i] = item;
  }

  pop() {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (heap.length) {
      let i = 0;
      for (let child; (child = 2 * i + 1) < heap.length; i = child) {
        if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], last)) break;
        heap[i] = heap[child];
      }
      heap[i] = last;
    }
    return top?.[2];
  }
}

function before(a, b) {
  return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
}

/** Polygons, dilation, components and distances on masks, by OpenCV's rules. */
import { emptyImage, rint } from "./images.js";

/** The convex hull of integer points [x, y], in order. */
export function convexHull(points) {
  const sorted = [...points].sort((p, q) => p[0] - q[0] || p[1] - q[1]);
  const half = (list) => {
    const chain = [];
    for (const p of list) {
      while (chain.length > 1) {
        const [a, b] = chain.slice(-2);
        if ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) > 0) break;
        chain.pop();
      }
      chain.push(p);
    }
    return chain.slice(0, -1);
  };
  const hull = [...half(sorted), ...half(sorted.reverse())];
  return hull.length ? hull : [points[0]];
}

/** Fills a convex polygon of integer points with 255, its outline included (`cv2.fillConvexPoly`). Changes `mask`. */
export function fillConvexPoly(mask, points) {
  const { width, height, data } = mask;
  const put = (x, y) => {
    if (x >= 0 && y >= 0 && x < width && y < height) data[y * width + x] = 255;
  };
  const low = new Float64Array(height).fill(Infinity);
  const high = new Float64Array(height).fill(-Infinity);
  points.forEach((p, i) => {
    const q = points[(i + 1) % points.length];
    line(p, q, put);
    const [a, b] = p[1] <= q[1] ? [p, q] : [q, p];
    for (let y = Math.max(a[1], 0); y <= Math.min(b[1], height - 1); y++) {
      const x = a[1] === b[1] ? a[0] : a[0] + ((b[0] - a[0]) * (y - a[1])) / (b[1] - a[1]);
      low[y] = Math.min(low[y], x);
      high[y] = Math.max(high[y], x);
    }
  });
  for (let y = 0; y < height; y++) {
    const first = Math.max(Math.round(low[y]), 0);
    const last = Math.min(Math.round(high[y]), width - 1);
    for (let x = first; x <= last; x++) data[y * width + x] = 255;
  }
  return mask;
}

/** Bresenham's line. */
function line([x, y], [endX, endY], put) {
  const across = Math.abs(endX - x);
  const down = Math.abs(endY - y);
  const stepX = Math.sign(endX - x);
  const stepY = Math.sign(endY - y);
  const steps = Math.max(across, down);
  let error = 0;
  put(x, y);
  for (let i = 0; i < steps; i++) {
    if (across >= down) {
      x += stepX;
      error += 2 * down;
      if (error > across) [y, error] = [y + stepY, error - 2 * across];
    } else {
      y += stepY;
      error += 2 * across;
      if (error > down) [x, error] = [x + stepX, error - 2 * down];
    }
    put(x, y);
  }
}

/** For each row of OpenCV's ellipse of an odd side, from -radius to radius: how far it reaches to either side. */
export function ellipse(side) {
  const radius = side >> 1;
  return Array.from({ length: side }, (_, i) => {
    const dy = i - radius;
    return radius ? rint(radius * Math.sqrt((radius * radius - dy * dy) / (radius * radius))) : 0;
  });
}

/** The same of a square. */
export function square(side) {
  return new Array(side).fill(side >> 1);
}

/** `cv2.dilate` with an element of odd side, given by its reach in each row. */
export function dilate(mask, element) {
  const { width, height, data } = mask;
  const radius = element.length >> 1;
  const result = emptyImage(width, height);
  // Only where a pixel differs from its neighbour to the left or right does a run of hidden pixels begin or end.
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!data[y * width + x]) continue;
      const start = x;
      while (x + 1 < width && data[y * width + x + 1]) x++;
      for (let dy = -radius; dy <= radius; dy++) {
        const row = y + dy;
        if (row < 0 || row >= height) continue;
        const reach = element[dy + radius];
        result.data.fill(255, row * width + Math.max(start - reach, 0), row * width + Math.min(x + reach, width - 1) + 1);
      }
    }
  }
  return result;
}

/** The connected parts, over their edges or `corners` too, of the pixels whose value is `value`: lists of indices. */
export function components(mask, value, corners = false) {
  const { width, data } = mask;
  const seen = new Uint8Array(data.length);
  const parts = [];
  for (let i = 0; i < data.length; i++) {
    if (seen[i] || data[i] !== value) continue;
    const part = [i];
    seen[i] = 1;
    for (let k = 0; k < part.length; k++) {
      const at = part[k];
      const x = at % width;
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          const next = at + dy * width + dx;
          if ((dx && dy && !corners) || x + dx < 0 || x + dx >= width || next < 0 || next >= data.length) continue;
          if (seen[next] || data[next] !== value) continue;
          seen[next] = 1;
          part.push(next);
        }
      }
    }
    parts.push(part);
  }
  return parts;
}

/** The distance of each hidden pixel to the nearest one that is not (`cv2.distanceTransform`, L2, precise); Float32Array. */
export function distanceTransform(mask) {
  const { width, height, data } = mask;
  // Within a column, down and up again; then across, by the lower envelope of parabolas (Felzenszwalb and Huttenlocher 2012).
  const FAR = 1e6;
  const within = new Float64Array(data.length);
  for (let i = 0; i < within.length; i++) within[i] = data[i] ? FAR : 0;
  for (let i = width; i < within.length; i++) within[i] = Math.min(within[i], within[i - width] + 1);
  for (let i = within.length - 1 - width; i >= 0; i--) within[i] = Math.min(within[i], within[i + width] + 1);
  const result = new Float32Array(data.length);
  // The parabolas: their heights and places, and where each begins to be the lowest.
  const heights = new Float64Array(width);
  const places = new Int32Array(width);
  const starts = new Float64Array(width + 1);
  for (let row = 0; row < data.length; row += width) {
    let last = -1;
    for (let x = 0; x < width; x++) {
      const value = within[row + x] * within[row + x];
      let start = -Infinity;
      for (; last >= 0; last--) {
        const place = places[last];
        start = (value + x * x - heights[last] - place * place) / (2 * (x - place));
        if (start > starts[last]) break;
      }
      last++;
      heights[last] = value;
      places[last] = x;
      starts[last] = start;
    }
    starts[last + 1] = Infinity;
    for (let x = 0, k = 0; x < width; x++) {
      while (starts[k + 1] < x) k++;
      const apart = x - places[k];
      result[row + x] = Math.sqrt(apart * apart + heights[k]);
    }
  }
  return result;
}

/** The smallest rectangle { x, y, width, height } that holds all hidden pixels; of width 0 if there are none. */
export function boundingRect(mask) {
  let [left, top, right, bottom] = [mask.width, mask.height, -1, -1];
  for (let y = 0, i = 0; y < mask.height; y++) {
    for (let x = 0; x < mask.width; x++, i++) {
      if (!mask.data[i]) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  return right < 0 ? { x: 0, y: 0, width: 0, height: 0 } : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

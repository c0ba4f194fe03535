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
      const rows = [at - width, at, at + width];
      const beside = corners ? rows : [at];
      if (x) rows.push(...beside.map((i) => i - 1));
      if (x + 1 < width) rows.push(...beside.map((i) => i + 1));
      for (const next of rows) {
        if (next < 0 || next >= data.length || seen[next] || data[next] !== value) continue;
        seen[next] = 1;
        part.push(next);
      }
    }
    parts.push(part);
  }
  return parts;
}

/** The distance of each hidden pixel to the nearest one that is not (`cv2.distanceTransform`, L2, precise); Float32Array. */
export function distanceTransform(mask) {
  const { width, height, data } = mask;
  const squares = Float64Array.from(data, (value) => (value ? 1e12 : 0));
  const longest = Math.max(width, height);
  // Of the lower envelope of parabolas (Felzenszwalb and Huttenlocher 2012): the values, their places, and where each begins.
  const values = new Float64Array(longest);
  const places = new Int32Array(longest);
  const starts = new Float64Array(longest + 1);
  const pass = (start, stride, count) => {
    let k = 0;
    for (let q = 0; q < count; q++) values[q] = squares[start + q * stride];
    places[0] = 0;
    starts[0] = -Infinity;
    starts[1] = Infinity;
    for (let q = 1; q < count; q++) {
      const meets = (p) => (values[q] + q * q - values[p] - p * p) / (2 * (q - p));
      let at = meets(places[k]);
      while (at <= starts[k]) at = meets(places[--k]);
      places[++k] = q;
      starts[k] = at;
      starts[k + 1] = Infinity;
    }
    k = 0;
    for (let q = 0; q < count; q++) {
      while (starts[k + 1] < q) k++;
      squares[start + q * stride] = (q - places[k]) ** 2 + values[places[k]];
    }
  };
  for (let x = 0; x < width; x++) pass(x, width, height);
  for (let y = 0; y < height; y++) pass(y * width, 1, width);
  return Float32Array.from(squares, Math.sqrt);
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

/** Do the networks give the numbers that the exporter got? */
import { planes } from "./detection.js";
import { clamp, emptyImage, rint } from "./images.js";

/** Side of the blocks over which results are averaged, in pixels. */
const BLOCK = 8;
/** By how much the mean difference may be: a pixel, a probability, a level; and of each of the detector's maps, scores first. */
const TOLERANCES = { detector: [0.0005, ...Array(14).fill(0.02)], landmarks: [0.5], segmentation: [0.01], generator: [1], fast: [1] };
/** The face for the detector, and its side: as in page/networks.py. */
const DETECTOR_SIZE = 128;
const BACKGROUND = [150, 160, 170];
const ELLIPSES = [
  [0.5, 0.425, 0.2625, 0.3125, 60, 45, 40],
  [0.5, 0.775, 0.1125, 0.1375, 190, 150, 130],
  [0.5, 0.525, 0.2125, 0.275, 215, 170, 145],
  ...[0.4125, 0.5875].map((x) => [x, 0.475, 0.05, 0.03, 170, 125, 110]),
  ...[0.4125, 0.5875].map((x) => [x, 0.475, 0.04, 0.02, 240, 240, 240]),
  ...[0.4125, 0.5875].map((x) => [x, 0.475, 0.01875, 0.02, 40, 30, 30]),
  ...[0.4125, 0.5875].map((x) => [x, 0.41875, 0.0625, 0.014, 70, 50, 40]),
  [0.5, 0.55, 0.025, 0.075, 228, 185, 160],
  [0.5, 0.68, 0.08, 0.025, 175, 80, 80],
];

/** The largest mean difference of `networks` from what `descriptions` expect, over what is tolerated: up to 1 is right. */
export async function selfTest(networks, descriptions) {
  const shares = [];
  for (const [name, network] of Object.entries(networks)) {
    const numbers = await summary(network, name);
    const { expected } = descriptions[name];
    TOLERANCES[name].forEach((tolerance, map, { length }) => {
      const differences = numbers.map((value, i) => Math.abs(value - expected[i])).filter((_, i) => i % length === map);
      shares.push(differences.reduce((a, b) => a + b) / differences.length / tolerance);
    });
  }
  return Math.max(...shares); // NaN if one of them is.
}

async function summary(network, name) {
  if (name === "detector") return detectorSummary(network);
  const image = testImage(network.size);
  if (name === "landmarks") return (await network.landmarks(image)).flat();
  if (name === "segmentation") return blockMeans(await network.probability(image), network.size, 1);
  const mask = emptyImage(network.size, network.size);
  mask.data.fill(255, mask.data.length / 2);
  return blockMeans((await network.unmask(image, mask)).data, network.size, 3);
}

/** Means of blocks of the detector's maps, which come one after the other, [1, C, H, W]. */
async function detectorSummary(run) {
  const { heat, sizes, offsets, points } = await run({ picture: planes(testFace(DETECTOR_SIZE)) });
  const size = Math.sqrt(heat.length);
  const maps = [heat, ...[sizes, offsets, points].flatMap((maps) => divided(maps, size ** 2))];
  const means = maps.map((map) => blockMeans(map, size, 1));
  return means[0].flatMap((_, block) => means.map((of) => of[block]));
}

function divided(values, length) {
  return Array.from({ length: values.length / length }, (_, i) => values.subarray(i * length, (i + 1) * length));
}

function testImage(size) {
  const image = emptyImage(size, size, 3);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++) for (let c = 0; c < 3; c++) image.data[i++] = (x + 2 * y + 40 * c) % 256;
  }
  return image;
}

export function testFace(size) {
  const image = emptyImage(size, size, 3);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++, i += 3) {
      let pixel = BACKGROUND;
      for (const [across, down, halfWidth, halfHeight, ...colour] of ELLIPSES) {
        const apart = ((x / size - across) / halfWidth) ** 2 + ((y / size - down) / halfHeight) ** 2;
        const weight = clamp(2 * (1 - apart), 0, 1);
        pixel = pixel.map((level, c) => level * (1 - weight) + weight * colour[c]);
      }
      image.data.set(pixel.map(rint), i);
    }
  }
  return image;
}

function blockMeans(values, size, channels) {
  const across = size / BLOCK;
  const means = new Array(across * across * channels).fill(0);
  for (let i = 0; i < values.length; i++) {
    const pixel = Math.floor(i / channels);
    const block = Math.floor(pixel / size / BLOCK) * across + Math.floor((pixel % size) / BLOCK);
    means[block * channels + (i % channels)] += values[i] / BLOCK ** 2;
  }
  return means;
}

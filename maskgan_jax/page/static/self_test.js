/** Do the networks give the numbers that the exporter got? */
import { planes } from "./detection.js";
import { emptyImage } from "./images.js";

/** Side of the blocks over which results are averaged, in pixels. */
const BLOCK = 8;
/** By how much the mean difference may be: of the detector's numbers, a pixel, a probability, a level. */
const TOLERANCES = { detector: 0.02, landmarks: 0.5, segmentation: 0.01, generator: 1, fast: 1 };
/** Side of the photo that the detector gets. */
const DETECTOR_SIZE = 128;

/** The largest mean difference of `networks` from what `descriptions` expect, over what is tolerated: up to 1 is right. */
export async function selfTest(networks, descriptions) {
  let largest = 0;
  for (const [name, network] of Object.entries(networks)) {
    const numbers = await summary(network, name);
    const { expected } = descriptions[name];
    const difference = numbers.reduce((sum, value, i) => sum + Math.abs(value - expected[i]), 0) / expected.length;
    const share = difference / TOLERANCES[name];
    if (!(share <= largest)) largest = share; // NaN stays.
  }
  return largest;
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
  const { heat, sizes, offsets, points } = await run({ picture: planes(testImage(DETECTOR_SIZE)) });
  const size = Math.sqrt(heat.length);
  const maps = [heat, ...[sizes, offsets, points].flatMap((maps) => divided(maps, size ** 2))];
  const means = maps.map((map) => blockMeans(map, size, 1));
  return means[0].flatMap((_, block) => means.map((of) => of[block]));
}

function divided(values, length) {
  return Array.from({ length: values.length / length }, (_, i) => values.subarray(i * length, (i + 1) * length));
}

export function testImage(size) {
  const image = emptyImage(size, size, 3);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++) for (let c = 0; c < 3; c++) image.data[i++] = (x + 2 * y + 40 * c) % 256;
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

/** The noise of `np.random.default_rng(0)`: PCG64 (O'Neill 2014) and the ziggurat method (Marsaglia and Tsang 2000). */

// 128-bit numbers, in limbs of 16 bits, the lowest first.
const limbs = (number) => Uint16Array.from({ length: 8 }, (_, i) => Number((number >> BigInt(16 * i)) & 0xffffn));
const MULTIPLIER = limbs(0x2360ed051fc65da44385df649fccf645n);
/** What NumPy's seed 0 gives: `np.random.default_rng(0).bit_generator.state`. */
const START = limbs(35399562948360463058890781895381311971n);
const INCREMENT = limbs(87136372517582989555478159403783844777n);

/** The width of the outermost of 256 layers under the normal curve. */
const WIDEST = 3.6541528853610088;
const STEPS = 2 ** 23;
/** By layer: its width over STEPS; below how many of these steps a point is surely under the curve; the height of its foot. */
const [WIDTHS, SURE, HEIGHTS] = (() => {
  const curve = (x) => Math.exp(-0.5 * x * x);
  const area = WIDEST * curve(WIDEST) + Math.sqrt(Math.PI / 2) * tail(WIDEST / Math.SQRT2);
  const x = new Float64Array(256);
  x[255] = WIDEST;
  for (let i = 255; i > 1; i--) x[i - 1] = Math.sqrt(-2 * Math.log(curve(x[i]) + area / x[i]));
  const widths = Float32Array.from(x, (width) => width / STEPS);
  const sure = Uint32Array.from(x, (width, i) => (i > 1 ? (x[i - 1] / width) * STEPS : 0));
  widths[0] = area / curve(WIDEST) / STEPS;
  sure[0] = ((WIDEST * curve(WIDEST)) / area) * STEPS;
  return [widths, sure, Float32Array.from(x, curve)];
})();

/** The complementary error function, for arguments well above 1, as a continued fraction. */
function tail(x) {
  let fraction = x;
  for (let k = 60; k > 0; k--) fraction = x + k / 2 / fraction;
  return Math.exp(-x * x) / (fraction * Math.sqrt(Math.PI));
}

/** What gives random numbers of 32 bits. */
function pcg64() {
  let state = START;
  let other = new Uint16Array(8);
  let second = -1;
  return () => {
    if (second >= 0) {
      const value = second;
      second = -1;
      return value;
    }
    let carry = 0;
    for (let i = 0; i < 8; i++) {
      let sum = carry + INCREMENT[i];
      for (let j = 0; j <= i; j++) sum += state[j] * MULTIPLIER[i - j];
      other[i] = sum % 65536;
      carry = Math.floor(sum / 65536);
    }
    [state, other] = state === START ? [other, new Uint16Array(8)] : [other, state];
    // The halves of 64 bits, combined and rotated by the highest bits.
    const [a, b, c, d] = [0, 1, 2, 3].map((i) => state[i] ^ state[i + 4]);
    let low = ((b << 16) | a) >>> 0;
    let high = ((d << 16) | c) >>> 0;
    let turn = state[7] >>> 10;
    if (turn >= 32) [low, high, turn] = [high, low, turn - 32];
    if (turn) [low, high] = [((low >>> turn) | (high << (32 - turn))) >>> 0, ((high >>> turn) | (low << (32 - turn))) >>> 0];
    second = high;
    return low;
  };
}

/** `np.random.default_rng(0).standard_normal(count, np.float32)`. */
export function standardNormal(count) {
  const next = pcg64();
  const uniform = () => (next() >>> 8) / 2 ** 24;
  const draw = () => {
    for (;;) {
      const bits = next();
      const layer = bits & 255;
      const step = (bits >>> 9) & 0x7fffff;
      const x = Math.fround(step * WIDTHS[layer]) * (bits & 256 ? -1 : 1);
      if (step < SURE[layer]) return x;
      if (layer) {
        if ((HEIGHTS[layer - 1] - HEIGHTS[layer]) * uniform() + HEIGHTS[layer] < Math.exp(-0.5 * x * x)) return x;
        continue;
      }
      for (;;) {
        const beyond = -Math.log1p(-uniform()) / WIDEST;
        const y = -Math.log1p(-uniform());
        if (2 * y > beyond * beyond) return step & 256 ? -(WIDEST + beyond) : WIDEST + beyond;
      }
    }
  };
  return Float32Array.from({ length: count }, draw);
}

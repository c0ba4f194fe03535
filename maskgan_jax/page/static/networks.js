/** The networks in ONNX Runtime Web: by WebGPU if the browser has it and it gives the right numbers, else by WebAssembly. */
import { couldNotBeLoaded, download, forgetOthers } from "./download.js";
import { FaceNetwork } from "./face_network.js";
import { selfTest } from "./self_test.js";

const RUNTIMES = {
  webgpu: { script: "ort.webgpu.bundle.min.mjs", wasm: "ort-wasm-simd-threaded.asyncify.wasm" },
  wasm: { script: "ort.wasm.bundle.min.mjs", wasm: "ort-wasm-simd-threaded.wasm" },
};
/** More threads than this do not make it faster. */
const MOST_THREADS = 8;

/** How long the networks ran, all together. */
export const stopwatch = { milliseconds: 0 };

/**
 * Loads the runtime and the networks of a site (site.json).
 *
 * `report` gets { loaded, total } in bytes, and { warning } in words. `wanted` may be 'wasm', to use no other.
 *
 * Gives { detector, landmarks, segmentation, generator, fast }, where `fast` is a function that loads that network, and { backend,
 * threads, difference }.
 */
export async function loadNetworks(site, report, wanted) {
  const backends = wanted !== "wasm" && (await hasGpu()) ? ["webgpu", "wasm"] : ["wasm"];
  const { script, wasm } = RUNTIMES[backends[0]];
  const ort = await import(`./runtime/${script}`).catch(() => {
    throw couldNotBeLoaded(script);
  });
  const warn = (warning) => report({ warning });
  const names = ["detector", "landmarks", "segmentation", "generator"];
  const files = [site.runtime[wasm], ...names.map((name) => site.networks[name])];
  const progress = files.map(() => 0);
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  await forgetOthers([...Object.values(site.runtime), ...Object.values(site.networks)]);
  const load = (file, i) =>
    download(file, (bytes) => {
      progress[i] = bytes;
      report({ loaded: progress.reduce((a, b) => a + b), total });
    }, warn);
  const [binary, ...models] = await Promise.all(files.map(load));

  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
  ort.env.logLevel = "error";

  // The networks of `models`, on the first of `backends` that gives the right numbers.
  const firstRight = async (backends, models, complaint, failure) => {
    for (const backend of backends) {
      try {
        const networks = {};
        for (const [name, model] of Object.entries(models)) networks[name] = await createNetwork(ort, model, site.networks[name], backend);
        const difference = await selfTest(networks, site.networks);
        if (difference <= 1) return { ...networks, backend, difference };
      } catch (error) {
        if (backend === "wasm") throw error;
        console.warn(error);
      }
      if (backend === "webgpu") warn(complaint);
    }
    throw new Error(failure);
  };
  const networks = await firstRight(
    backends,
    Object.fromEntries(names.map((name, i) => [name, models[i]])),
    "WebGPU does not give the right numbers in this browser, so WebAssembly is used, which is slower.",
    "This browser does not compute the networks correctly; try another one.",
  );
  const threads = ort.env.wasm.numThreads;
  if (networks.backend === "wasm" && threads === 1 && navigator.hardwareConcurrency > 1) {
    warn("This page may not use several processor cores here (it is not cross-origin isolated), so it is slower.");
  }
  const fast = async () => {
    const model = await download(site.networks.fast, (loaded) => report({ loaded, total: site.networks.fast.bytes }), warn);
    const { fast: network } = await firstRight(
      new Set([networks.backend, "wasm"]),
      { fast: model },
      "WebGPU does not give the right numbers for the camera, so WebAssembly is used for it, which is slower.",
      "This browser does not compute the camera's network correctly; choose a photo instead.",
    );
    return network;
  };
  return { ...networks, fast, threads };
}

/** Whether WebGPU has a graphics processor to run on, and not software that stands in for one and is slower than WebAssembly. */
async function hasGpu() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    return Boolean(adapter && !adapter.info.isFallbackAdapter);
  } catch {
    return false;
  }
}

/** The detector as a function of named arrays, and another network as a `FaceNetwork`. */
async function createNetwork(ort, model, description, backend) {
  const session = await ort.InferenceSession.create(model, { executionProviders: [backend], logSeverityLevel: 3 });
  const run = async (arrays) => {
    const inputs = {};
    for (const [name, [array, shape]] of Object.entries(arrays)) inputs[name] = new ort.Tensor("float32", array, shape);
    const start = performance.now();
    const outputs = await session.run(inputs);
    stopwatch.milliseconds += performance.now() - start;
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
  };
  return description.size ? new FaceNetwork(run, description) : run;
}

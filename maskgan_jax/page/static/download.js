/** Large files: fetched with progress, checked by their digests, kept in a cache of their own. */

const CACHE = "maskgan-large-files";
/** A connection that brings nothing for so many milliseconds is given up. */
const LONGEST_PAUSE = 60_000;

/** What site.json says. Throws as `download` does. */
export async function loadSite() {
  try {
    return await (await fetch("site.json")).json();
  } catch {
    throw couldNotBeLoaded("site.json");
  }
}

export const couldNotBeLoaded = (name) => new Error(`${name} could not be loaded; check the connection, then reload the page.`);

/**
 * The bytes of a file of site.json: { file, bytes, sha256 }.
 *
 * `onProgress` gets how many bytes have come, `onWarning` a sentence if the file cannot be kept. Throws an Error whose message is
 * for the reader if the file cannot be had, or is not what it must be.
 */
export async function download({ file, bytes, sha256 }, onProgress, onWarning) {
  const name = file.split("/").pop();
  const address = `${file}?${sha256.slice(0, 16)}`;
  const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
  const kept = await cache?.match(address);
  if (kept) {
    const data = new Uint8Array(await kept.arrayBuffer());
    if (await isWhole(data, bytes, sha256)) {
      onProgress(bytes);
      return data;
    }
    await cache.delete(address);
  }
  let data;
  try {
    data = await read(address, bytes, onProgress);
  } catch {
    throw couldNotBeLoaded(name);
  }
  if (!(await isWhole(data, bytes, sha256))) {
    throw new Error(`${name} is not complete, or not what it must be (${data.length} of ${bytes} bytes); reload the page.`);
  }
  try {
    await cache?.put(address, new Response(data));
  } catch {
    onWarning("There is no space left to keep the networks: the page works, but must load them again next time.");
  }
  return data;
}

/** Deletes what other versions of the site kept. `files` are all those of this one. */
export async function forgetOthers(files) {
  const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
  const current = new Set(files.map(({ file, sha256 }) => new URL(`${file}?${sha256.slice(0, 16)}`, location.href).href));
  for (const request of (await cache?.keys()) ?? []) if (!current.has(request.url)) await cache.delete(request);
}

async function read(address, bytes, onProgress) {
  const connection = new AbortController();
  let pause;
  const wait = () => {
    clearTimeout(pause);
    pause = setTimeout(() => connection.abort(), LONGEST_PAUSE);
  };
  wait();
  try {
    const response = await fetch(address, { signal: connection.signal });
    if (!response.ok) throw new Error(response.statusText);
    const data = new Uint8Array(bytes);
    const reader = response.body.getReader();
    let length = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return data.subarray(0, length);
      if (length + value.length > bytes) return value; // Another file.
      data.set(value, length);
      length += value.length;
      onProgress(length);
      wait();
    }
  } finally {
    clearTimeout(pause);
  }
}

async function isWhole(data, bytes, sha256) {
  if (data.length !== bytes) return false;
  if (!globalThis.crypto?.subtle) return true; // Only pages from https and from this machine can compute digests.
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

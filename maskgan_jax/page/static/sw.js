// The service worker: keeps the page, so that it works without a network. Above this line, the writer of the site has put VERSION,
// FILES, the digests of its files, and HEADERS, which its own server sends with each file. Networks and WebAssembly are kept by
// download.js.

const CACHE = `maskgan-page-${VERSION}`;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { method, mode, url } = event.request;
  const { origin, search } = new URL(url);
  // Large files have a query; the page may have one, too.
  if (method === "GET" && origin === location.origin && (!search || mode === "navigate")) event.respondWith(answer(event.request));
});

async function install() {
  const cache = await caches.open(CACHE);
  const integrity = (digest) => `sha256-${btoa(String.fromCharCode(...digest.match(/../g).map((pair) => parseInt(pair, 16))))}`;
  const entries = Object.entries(FILES);
  await cache.addAll(entries.map(([file, digest]) => new Request(file, { integrity: integrity(digest), cache: "no-cache" })));
  await self.skipWaiting();
}

async function activate() {
  for (const name of await caches.keys()) {
    if (name.startsWith("maskgan-page-") && name !== CACHE) await caches.delete(name);
  }
  await self.clients.claim();
}

/** What is kept; else what the network has. With the headers that threads need and the policy, which some hosts do not send. */
async function answer(request) {
  const path = new URL(request.url).pathname.replace(/\/$/, "/index.html");
  const cache = await caches.open(CACHE);
  const response = (await cache.match(new URL(path, location.origin))) ?? (await fetch(request));
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

// A service worker: keeps the page and what it has read, for when the server doesn't answer. Whatever the server
// says comes first. Thumbnails need none of it: browsers keep them by themselves.

const KEPT = "crossmodal";
const MOST_ANSWERS = 200;
/** What a proxy says for a server that doesn't answer. */
const AWAY = [502, 504];
const HOME = new URL("..", location.href);
const ANSWERS = /^v1\/(documents(\/[^/]+)?|facets|layout|tags|status)$/;

/** The page, and all of its files that it names. */
async function keepPage() {
  const cache = await caches.open(KEPT);
  const page = await fetch(HOME);
  if (!page.ok || page.redirected) return;
  const named = (await page.clone().text()).matchAll(/"(page\/[^"]+)"/g);
  const files = new Set(Array.from(named, ([, file]) => new URL(file, HOME).href));
  await Promise.all([cache.put(HOME, page), cache.addAll([...files])]);
}

/** The name under which an answer is kept; null for what is not. */
function nameOf({ url, mode }) {
  const address = new URL(url);
  const path = address.href.slice(HOME.href.length).replace(/\?.*/s, "");
  if (!address.href.startsWith(HOME.href)) return null;
  if (path === "" && mode === "navigate") return HOME.href;
  return path.startsWith("page/") || ANSWERS.test(path) ? url : null;
}

async function keep(name, answer) {
  const cache = await caches.open(KEPT);
  await cache.put(name, answer);
  const answers = (await cache.keys()).filter((request) => request.url.startsWith(`${HOME.href}v1/`));
  await Promise.all(answers.slice(0, -MOST_ANSWERS).map((request) => cache.delete(request)));
}

async function answerOf(event, name) {
  let answer;
  try {
    answer = await fetch(event.request);
    if (answer.ok && !answer.redirected) event.waitUntil(keep(name, answer.clone()));
    // The session is over: what it read isn't for the next one.
    if (answer.status === 401) event.waitUntil(caches.delete(KEPT));
    if (!AWAY.includes(answer.status)) return answer;
    throw new TypeError("A proxy says that the server is away.");
  } catch (error) {
    const kept = await caches.match(name, { cacheName: KEPT });
    if (!kept && answer) return answer;
    if (!kept) throw error;
    const headers = new Headers(kept.headers);
    headers.set("X-Kept", "1");
    return new Response(kept.body, { headers });
  }
}

addEventListener("install", (/** @type {any} */ event) => event.waitUntil(keepPage()));
addEventListener("fetch", (/** @type {any} */ event) => {
  const name = event.request.method === "GET" && nameOf(event.request);
  if (name) event.respondWith(answerOf(event, name));
});

import { api, remember, thumbnailUrl } from "./api.js";
import { make } from "./dom.js";
import { navigate } from "./navigation.js";
import { openAddress } from "./results.js";

// As many as an index has of a video (`limits.MOMENTS`).
const MOST_MOMENTS = 200;

/** "0:06", "1:02:07". */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [first, ...rest] = parts[0] ? parts : parts.slice(1);
  return [first, ...rest.map((part) => String(part).padStart(2, "0"))].join(":");
}

/** What a tile says of the moment that it shows, or null where it shows a photo. */
export function momentMark({ video }) {
  if (!video) return null;
  return make(
    "span",
    { class: "moment", data: { testid: "moment" } },
    make("span", { "aria-hidden": "true", text: "▶ " }),
    make("span", { class: "visually-hidden", text: "Video at " }),
    clock(video.time_seconds),
  );
}

/** The video of a moment, from there on. */
export const player = (item, name) =>
  make("video", {
    src: item.video.content,
    poster: thumbnailUrl(item.id),
    controls: true,
    playsinline: true,
    preload: "metadata",
    "aria-label": name,
    data: { testid: "lightbox-video" },
  });

/** The moments of the video of `item`, each a link that opens it; empty until they are known. */
export function momentsStrip(item) {
  const strip = make("div", { class: "strip", data: { testid: "lightbox-moments" } });
  const filter = JSON.stringify({ video_id: item.video.id });
  api.documents({ modality: "image", limit: MOST_MOMENTS, filter, sort: "time_seconds" }).then(
    ({ documents }) => {
      remember(documents);
      const links = documents.map(({ id, video }) =>
        make(
          "a",
          {
            href: openAddress(id),
            "aria-label": `Play from ${clock(video.time_seconds)}`,
            "aria-current": id === item.id && "true",
            on: { click: (event) => (event.preventDefault(), navigate({ open: id }, { replace: true })) },
          },
          make("img", { src: thumbnailUrl(id), alt: "", loading: "lazy", decoding: "async", width: 72, height: 54 }),
        ),
      );
      strip.replaceChildren(...links);
    },
    () => {}, // without them, the video itself is still there
  );
  return make("div", {}, make("h3", { text: "Moments" }), strip);
}

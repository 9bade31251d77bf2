import { known, nameOf } from "./api.js";
import { byId, count, icon, make } from "./dom.js";
import { announce, button, errorCard, explainInLine, messageCard, toast } from "./messages.js";
import { currentState, describeTerms, navigate, writeAddress } from "./navigation.js";
import { deepest, searchMore } from "./search.js";
import { momentMark } from "./videos.js";

/** "83%", "0.4%"; most of an index has a score near nothing, and its order still shows. */
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "<0.1%";
  return `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)}%`;
}

/** A match's score as text and bar: calibrated in percent, else the bare cosine. */
function scoreOf(match) {
  if (typeof match.cosine !== "number") return null; // a document of the start page, not a match
  const calibrated = typeof match.score === "number";
  const share = calibrated ? match.score : Math.max(0, match.cosine);
  const meter = make("span", { class: "score-bar", "aria-hidden": "true" }, make("span"));
  meter.firstChild.style.inlineSize = `${100 * Math.max(0.02, Math.min(1, share))}%`;
  return make(
    "span",
    {
      class: "score",
      data: { testid: "score" },
      title: `${calibrated ? `Score ${match.score.toFixed(4)}, ` : ""}cosine ${match.cosine.toFixed(4)}`,
    },
    meter,
    make("span", { class: "visually-hidden", text: "Score " }),
    calibrated ? percent(match.score) : match.cosine.toFixed(3),
  );
}

function partsOf(match) {
  if (!match.parts) return null;
  const { vector_rank: meaning, word_rank: words, text_rank: text } = match.parts;
  const said = [
    meaning ? `meaning #${meaning}` : null,
    words ? `words #${words}` : null,
    text ? `text in photo #${text}` : null,
  ].filter(Boolean);
  return make("span", { data: { testid: "parts" }, text: said.join(", ") });
}

function duplicatesOf(match) {
  if (!match.duplicates?.length) return null;
  return make("span", { class: "duplicates", data: { testid: "duplicates" }, text: `+${match.duplicates.length} alike` });
}

function actionsOf(match, actions) {
  const choice = (label, symbol, title, act, ...words) =>
    make(
      "button",
      {
        type: "button",
        class: `tile-button ${label.toLowerCase()}`,
        "aria-label": `${label} like this: ${nameOf(match)}`,
        title,
        data: { testid: `${label.toLowerCase()}-like-this` },
        on: { click: () => act(match) },
      },
      icon(symbol),
      make("span", {}, label, ...words),
    );
  return make(
    "div",
    { class: "tile-actions" },
    choice("More", "plus", "Add this to the search", actions.more, make("span", { class: "long-label", text: " like this" })),
    choice("Less", "minus", "Take things like this away from the search", actions.less),
  );
}

/** A thumbnail that says so when it cannot be loaded. */
export function thumbnail(photo, alt, eager = false) {
  const image = make("img", {
    src: photo.thumbnail,
    alt,
    loading: eager ? "eager" : "lazy",
    decoding: "async",
    width: 256,
    height: 192,
    draggable: "true",
  });
  image.addEventListener("error", () => image.replaceWith(make("span", { class: "broken", text: "The photo cannot be shown" })), { once: true });
  return image;
}

/** The address that opens a document over what is shown now. */
export const openAddress = (id) => writeAddress({ ...currentState(), open: id });

function openLink(match, actions, className, ...children) {
  return make(
    "a",
    {
      class: className,
      href: openAddress(match.id),
      data: { testid: "open-result" },
      on: {
        click: (event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
          event.preventDefault();
          actions.open(match.id);
        },
      },
    },
    ...children,
  );
}

function tile(match, ...children) {
  return make(
    "article",
    { class: "tile", data: { id: match.id, modality: match.modality, rank: match.rank, testid: "result" } },
    ...children,
  );
}

function photoTile(match, actions) {
  const captions = match.captions ?? [];
  const caption = captions[0]?.text;
  return tile(
    match,
    openLink(match, actions, "tile-photo", thumbnail(match.photo, nameOf(match), match.rank <= 4), momentMark(match), duplicatesOf(match)),
    make("p", { class: caption ? "tile-caption" : "tile-caption no-caption", text: nameOf(match), title: nameOf(match) }),
    match.text_in_photo &&
      make(
        "p",
        { class: "tile-seen", title: match.text_in_photo, data: { testid: "text-in-photo" } },
        make("span", { class: "kind", text: "Text in photo" }),
        ` ${match.text_in_photo}`,
      ),
    make(
      "p",
      { class: "tile-facts" },
      scoreOf(match),
      partsOf(match),
      captions.length > 1 && make("span", { text: `+${captions.length - 1} ${captions.length === 2 ? "caption" : "captions"}` }),
    ),
    actionsOf(match, actions),
  );
}

function captionTile(match, actions) {
  return tile(
    match,
    openLink(
      match,
      actions,
      "tile-words",
      make("span", { class: "tile-text", text: match.text }),
      match.photo && thumbnail(match.photo, "", match.rank <= 4),
      duplicatesOf(match),
    ),
    make("p", { class: "tile-facts" }, make("span", { class: "kind", text: "Caption" }), scoreOf(match), partsOf(match)),
    actionsOf(match, actions),
  );
}

/** One match, or document of the index, as an article with data-id; `actions` are {open, more, less}. */
export function resultTile(match, actions) {
  return match.modality === "image" ? photoTile(match, actions) : captionTile(match, actions);
}

function skeletons(number) {
  return Array.from({ length: number }, () =>
    make(
      "div",
      { class: "tile skeleton", "aria-hidden": "true" },
      make("div", { class: "skeleton-photo" }),
      make("div", { class: "skeleton-line" }),
      make("div", { class: "skeleton-line short" }),
    ),
  );
}

/** The picture of a document where it is known: its thumbnail's address, or null. */
export function pictureOf(id) {
  return known(id)?.photo?.thumbnail ?? null;
}

const TITLES = { image: "Photos", text: "Captions", both: "Photos and captions" };

/** "12 photos and 8 captions", with "first" where there are more. */
export function countSentence(sections) {
  const said = sections.map(({ matches, modality, hasMore }) => {
    const photos = matches.filter((match) => match.modality === "image").length;
    const counts = [
      (photos || modality === "image") && count(photos, "photo"),
      (photos < matches.length || modality === "text") && count(matches.length - photos, "caption"),
    ];
    return (hasMore ? "first " : "") + (counts.filter(Boolean).join(" and ") || "no results");
  });
  return said.join(" and ").replace(/^first (.*) and first /, "first $1 and ").replace(/^./, (letter) => letter.toUpperCase());
}

/** Fills the place of the results with what `kind` names, and returns it. */
export function fillResults(kind, ...children) {
  const place = byId("results");
  place.dataset.kind = kind;
  place.className = "results";
  place.toggleAttribute("aria-busy", false);
  place.replaceChildren(...children);
  return place;
}

/** Shows that `number` results are awaited: grey shapes hold their place. */
export function fillWithSkeletons(number) {
  const grid = make("div", { class: "grid", data: { testid: "loading" } }, ...skeletons(number));
  fillResults("loading", grid).setAttribute("aria-busy", "true");
}

/** Shows that a search runs: earlier results dim, an empty place gets grey shapes. */
export function showLoading(state) {
  const place = byId("results");
  if (place.querySelector("[data-testid=result]") && place.dataset.kind === "matches") place.setAttribute("aria-busy", "true");
  else fillWithSkeletons(Math.min(state.topK, 12));
}

/** Shows why a search failed. */
export const showError = (error, retry) => fillResults("error", errorCard(error, retry));

function nothingFound(state) {
  const actions = [];
  if (state.minScore) {
    actions.push(button("Drop the minimum score", { on: { click: () => navigate({ minScore: 0 }) }, kind: "primary" }));
  }
  if (state.filter) actions.push(button("Remove the filters", { on: { click: () => navigate({ filter: null }) }, kind: "primary" }));
  const reasons = [
    state.minScore ? `nothing scored at least ${Math.round(state.minScore * 100)}%` : null,
    state.filter ? "the filters leave little over" : null,
  ].filter(Boolean);
  return messageCard({
    title: "Nothing found",
    detail: reasons.length
      ? `${reasons.join(", and ").replace(/^./, (letter) => letter.toUpperCase())}.`
      : "Nothing is indexed that could match. Try other words, or show captions as well as photos.",
    symbol: "search",
    actions,
    testid: "nothing-found",
  });
}

function moreButton(state, section, grid, actions, onMore) {
  const foot = make("div", { class: "section-foot" });
  const draw = () => {
    foot.replaceChildren();
    const most = deepest(state);
    if (section.hasMore && section.matches.length < most) {
      const label = `Load more ${TITLES[section.modality].toLowerCase()}`;
      foot.append(button(label, { symbol: "down", on: { click: load }, testid: "load-more", "data-modality": section.modality }));
    } else if (section.atEnd || section.matches.length >= most) {
      foot.append(make("p", { class: "muted", text: `These are the first ${most.toLocaleString("en")}. Refine the search to see others.` }));
    }
  };
  const load = async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    pressed.setAttribute("aria-busy", "true");
    try {
      const fresh = await searchMore(state, section);
      const tiles = fresh.map((match) => resultTile(match, actions));
      grid.append(...tiles);
      draw();
      tiles[0]?.querySelector("a")?.focus({ preventScroll: true });
      onMore();
      announce(`${count(fresh.length, "more result")} loaded.`);
    } catch (error) {
      toast(explainInLine(error), { kind: "error" });
      draw();
    }
  };
  draw();
  return foot;
}

/** Which words of the search were taken for filters, and a button that takes them as words. */
function recognisedIn(sections) {
  const found = sections.flatMap((section) => section.recognised ?? []);
  if (!found.length) return null;
  const said = found.map(({ text }) => `\u201c${text}\u201d`).join(" and ");
  return make(
    "p",
    { class: "muted", title: JSON.stringify(found.map(({ filter }) => filter)), data: { testid: "recognised" } },
    `Only photos that fit ${said}, by date, place or file. `,
    button("Search for the words instead", { on: { click: () => navigate({ literal: true }) }, testid: "take-literally" }),
  );
}

function drawSection(state, section, actions, { heading, onMore, retry }) {
  const testid = `section-${section.modality}`;
  const title = heading && make("h2", { class: "section-title", id: testid, text: TITLES[section.modality] });
  if (section.error) return make("section", { data: { testid } }, title, errorCard(asProblem(section.error), retry));
  const grid = make(
    "div",
    { class: `grid grid-${section.modality}`, data: { testid: "results-grid" } },
    ...section.matches.map((match) => resultTile(match, actions)),
  );
  const doubt = section.doubt && make("p", { class: "muted", data: { testid: "doubt" }, text: section.doubt });
  const empty = section.matches.length === 0 && make("p", { class: "muted", text: `No ${TITLES[section.modality].toLowerCase()} match.` });
  return make(
    "section",
    { class: `section-${section.modality}`, "aria-label": TITLES[section.modality], data: { testid } },
    title,
    doubt,
    empty || grid,
    moreButton(state, section, grid, actions, onMore),
  );
}

const asProblem = (error) => Object.assign(new Error(error.title), error, { errors: error.errors ?? [] });

/** Shows the sections of an answer; `onMore` is called after more has been loaded, `retry` to search again. */
export function showResults(state, answer, actions, { onMore, retry }) {
  const { sections } = answer;
  const heading = sections.length > 1;
  const recognised = recognisedIn(sections);
  if (sections.every((section) => section.matches.length === 0 && !section.error)) {
    fillResults("matches", ...[recognised, nothingFound(state)].filter(Boolean));
  }
  else {
    const drawn = sections.map((section) => drawSection(state, section, actions, { heading, onMore, retry }));
    if (recognised) drawn.find((one) => one.dataset.testid === "section-image" || drawn.length === 1)?.prepend(recognised);
    fillResults("matches", ...drawn).classList.toggle("apart", heading);
  }
}

/** Announces the results to screen readers. */
export function announceResults(state, answer, nameOf) {
  announce(`${countSentence(answer.sections)} for ${describeTerms(state.terms, nameOf)}.`);
}

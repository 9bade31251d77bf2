import { known, nameOf } from "./api.js";
import { byId, count, icon, make } from "./dom.js";
import { announce, button, complain, errorCard, messageCard } from "./messages.js";
import { currentState, describeTerms, navigate, writeAddress } from "./navigation.js";
import { photoRows } from "./rows.js";
import { mark } from "./selection.js";
import { deepest, isWeak, searchMore, shownMatches, weakMatches } from "./search.js";
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
  const bar = make("span");
  const meter = make("span", { class: "score-bar", "aria-hidden": "true" }, bar);
  bar.style.inlineSize = `${100 * Math.max(0.02, Math.min(1, share))}%`;
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
  const choice = (label, symbol, title, act) =>
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
      make("span", { text: label }),
    );
  return make(
    "div",
    { class: "tile-actions" },
    choice("More", "plus", "Add this to the search", actions.more),
    choice("Less", "minus", "Take things like this away from the search", actions.less),
  );
}

/** The two sizes of a photo in rows, by their width: 200 and 480 pixels are its shorter side. */
function sourceSet({ thumbnail, width, height }) {
  if (!width || !height) return null;
  return [200, 480].map((side) => `${thumbnail}?size=${side} ${Math.round(side * Math.max(1, width / height))}w`).join(", ");
}

/** A thumbnail that says so when it cannot be loaded; `larger` for where one of two sizes is fitting. */
function thumbnail(photo, alt, { eager = false, larger = false } = {}) {
  const image = make("img", {
    src: photo.thumbnail,
    srcset: larger && sourceSet(photo),
    alt,
    loading: eager ? "eager" : "lazy",
    decoding: "async",
    width: 256,
    height: 192,
    draggable: "true",
  });
  image.addEventListener("error", () => {
    if (image.srcset) image.removeAttribute("srcset");
    else image.replaceWith(make("span", { class: "broken", text: "The photo cannot be shown" }));
  });
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

/** The caption of a photo that the search found, or else its first one. */
function captionLine(match, captions) {
  const found = match.found_caption;
  const text = found?.text ?? nameOf(match);
  return make(
    "p",
    { class: "tile-caption", title: text, data: { testid: found ? "found-caption" : null } },
    found && make("span", { class: "visually-hidden", text: "Caption that matched: " }),
    found ? `\u201c${text}\u201d` : text,
  );
}

function photoTile(match, actions) {
  const captions = match.captions ?? [];
  const image = thumbnail(match.photo, nameOf(match), { eager: match.rank <= 4, larger: !match.video });
  const ring = make(
    "button",
    { type: "button", class: "tile-check", "aria-pressed": "false", "aria-label": `Select ${nameOf(match)}`, title: "Select (x)", data: { testid: "select" } },
    icon("check"),
  );
  const element = tile(
    match,
    openLink(match, actions, "tile-photo", image, momentMark(match), duplicatesOf(match)),
    make(
      "div",
      { class: "tile-over" },
      captionLine(match, captions),
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
    ),
    actionsOf(match, actions),
    ring,
  );
  // Until the photo is there, its colour is.
  if (match.photo.colour) element.style.backgroundColor = match.photo.colour;
  mark(element);
  return element;
}

function captionTile(match, actions) {
  return tile(
    match,
    openLink(
      match,
      actions,
      "tile-words",
      make("span", { class: "tile-text", text: match.text }),
      match.photo && thumbnail(match.photo, "", { eager: match.rank <= 4 }),
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
      { class: "skeleton", "aria-hidden": "true" },
    ),
  );
}

/** The picture of a document where it is known: its thumbnail's address, or null. */
export function pictureOf(id) {
  return known(id)?.photo?.thumbnail ?? null;
}

const TITLES = { image: "Photos", text: "Captions" };

/** "12 photos", with "First" where there are more. */
export function countSentence({ section }) {
  const said = count(shownMatches(section).length, section.modality === "image" ? "photo" : "caption");
  return goesOn(section) ? `First ${said}` : said;
}

/** Whether more would be shown: results come by rank, so that after weak ones there are only weaker ones. */
const goesOn = ({ hasMore, weakShown, matches }) => hasMore && (weakShown || !weakMatches({ matches: matches.slice(-1) }).length);

/** Fills the place of the results with what `kind` names, and returns it. */
export function fillResults(kind, ...children) {
  const place = byId("results");
  place.dataset.kind = kind;
  place.className = "results";
  place.toggleAttribute("aria-busy", false);
  place.replaceChildren(...children);
  refresh = () => undefined;
  return place;
}

let refresh = () => undefined;

/** Shows the present list again, because documents were hidden or come back. */
export function refreshResults() {
  refresh();
  loadAhead?.();
}

/** Says how the present list is shown again. */
export function refreshBy(show) {
  refresh = show;
}

/** Shows that `number` results are awaited: grey shapes hold their place. */
export function fillWithSkeletons(number) {
  const grid = make("div", { class: "skeletons", data: { testid: "loading" } }, ...skeletons(number));
  fillResults("loading", grid).setAttribute("aria-busy", "true");
}

/** Shows that a search runs: earlier results dim, an empty place gets grey shapes. */
export function showLoading(state) {
  const place = byId("results");
  if (place.querySelector("[data-testid=result]") && place.dataset.kind === "matches") place.setAttribute("aria-busy", "true");
  else fillWithSkeletons(Math.min(state.topK, 24));
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
      : "Nothing is indexed that could match. Try other words.",
    symbol: "search",
    actions,
    testid: "nothing-found",
  });
}

// Loads more while what is shown ends within so many screens below.
const SCREENS_AHEAD = 2;
let loadAhead = null;
addEventListener("scroll", () => loadAhead?.(), { passive: true });

/** The end of a list: `load()` answers how many came; it is called when the visitor comes near, or asks for it. */
export function listFoot({ label, testid, hasMore, load, focus, atEnd = () => null }) {
  const foot = make("div", { class: "section-foot" });
  let running = false;
  async function more(pressed) {
    if (running) return;
    running = true;
    foot.firstElementChild?.setAttribute("aria-busy", "true");
    let fresh = [];
    try {
      fresh = await load();
      if (!foot.isConnected) return;
      if (pressed) focus(fresh[0]);
      announce(`${count(fresh.length, "more result")} loaded.`);
    } catch (error) {
      loadAhead = null; // asked for again by the button alone
      complain(error);
    } finally {
      running = false;
      draw();
      if (!fresh.length) loadAhead?.();
    }
  }
  function draw() {
    const end = atEnd();
    foot.replaceChildren();
    if (hasMore()) foot.append(button(label, { symbol: "down", on: { click: () => more(true) }, testid }));
    else if (end) foot.append(make("p", { class: "muted", text: end }));
  }
  loadAhead = () => {
    if (foot.isConnected && hasMore() && foot.getBoundingClientRect().top < (1 + SCREENS_AHEAD) * innerHeight) more(false);
  };
  draw();
  return { element: foot, draw };
}

function sectionFoot(state, answer, list, onMore) {
  const { section } = answer;
  const most = deepest(state);
  return listFoot({
    label: `Load more ${TITLES[section.modality].toLowerCase()}`,
    testid: "load-more",
    hasMore: () => goesOn(section) && section.reached < most,
    atEnd: () =>
      goesOn(section) && section.reached >= most && `These are the first ${most.toLocaleString("en")}. Refine the search to see others.`,
    load: async () => {
      const fresh = await searchMore(state, answer);
      list.set(shownMatches(section));
      onMore();
      return fresh;
    },
    focus: (match) => match && list.tile(match.id)?.querySelector("a").focus({ preventScroll: true }),
  });
}

/** Captions in a list, with the same interface as rows of photos. */
function captionList(matches, makeTile, testid) {
  const element = make("div", { class: "grid", data: { testid } }, ...matches.map(makeTile));
  const tile = (id) => element.querySelector(`[data-id="${CSS.escape(id)}"]`) ?? undefined;
  return {
    element,
    set(others) {
      others.forEach((match, at) => {
        const there = element.children[at];
        if (there?.dataset.id !== match.id) element.insertBefore(tile(match.id) ?? makeTile(match), there ?? null);
      });
      while (element.childElementCount > others.length) element.lastChild.remove();
    },
    tile,
  };
}

/** Which words of the search were taken for filters, and a button that takes them as words. */
function recognisedIn({ recognised: found }) {
  if (!found?.length) return null;
  const said = found.map(({ text }) => `\u201c${text}\u201d`).join(" and ");
  return make(
    "p",
    { class: "muted", title: JSON.stringify(found.map(({ filter }) => filter)), data: { testid: "recognised" } },
    `Only photos that fit ${said}, by date, place or file. `,
    button("Search for the words instead", { on: { click: () => navigate({ literal: true }) }, testid: "take-literally" }),
  );
}

/** What stands in the place of the weak results until somebody asks for them. */
function weakNote({ section }, list, foot, onMore) {
  const weak = weakMatches(section);
  if (section.weakShown || !weak.length) return null;
  const show = () => {
    section.weakShown = true;
    note.remove();
    list.set(shownMatches(section));
    foot.draw();
    onMore();
    list.tile(weak[0].id)?.querySelector("a").focus({ preventScroll: true });
  };
  const some = shownMatches(section).length > 0;
  const what = section.modality === "image" ? "photo" : "caption";
  const number = section.hasMore ? "" : `${weak.length} `;
  const label = some ? `Show ${number || "those "}that fit less well` : `Show the nearest ${what}s`;
  const reveal = button(label, { symbol: "down", kind: some ? "" : "primary", testid: "show-weak", on: { click: show } });
  const note = some
    ? make("div", { class: "weak-note" }, reveal)
    : messageCard({ title: "Nothing fits well", detail: section.doubt ?? "All scores are low.", symbol: "search", actions: [reveal], testid: "nothing-fits" });
  return note;
}

/** Words above the first of the weak results, where they follow others. */
const weakHeading = (item, previous) => (previous && isWeak(item) && !isWeak(previous) ? "These fit less well" : null);

const asProblem = (error) => Object.assign(new Error(error.title), error, { errors: error.errors ?? [] });

/** Shows an answer; `onMore` is called after more has been loaded, `retry` to search again. */
export function showResults(state, answer, actions, { onMore, retry }) {
  const { section } = answer;
  const recognised = recognisedIn(section);
  if (section.error) {
    fillResults("matches", errorCard(asProblem(section.error), retry));
    return;
  }
  if (!section.matches.length) {
    fillResults("matches", ...[recognised, nothingFound(state)].filter(Boolean));
    return;
  }
  const makeList = section.modality === "image" ? photoRows : captionList;
  const list = makeList(shownMatches(section), (match) => resultTile(match, actions), "results-grid", weakHeading);
  const foot = sectionFoot(state, answer, list, onMore);
  const shown = make(
    "section",
    { class: `section-${section.modality}`, "aria-label": TITLES[section.modality], data: { testid: `section-${section.modality}` } },
    recognised,
    section.partial?.length > 0 && make("p", { class: "muted", data: { testid: "partial" }, text: "A part of the index did not answer, so some photos may be missing." }),
    section.doubt && section.weakShown && make("p", { class: "muted", data: { testid: "doubt" }, text: section.doubt }),
    list.element,
    weakNote(answer, list, foot, onMore),
    foot.element,
  );
  fillResults("matches", shown);
  refreshBy(() => list.set(shownMatches(section)));
}

/** Announces the results to screen readers. */
export function announceResults(state, answer, nameOf) {
  const weak = answer.section.weakShown ? 0 : weakMatches(answer.section).length;
  announce(`${countSentence(answer)} for ${describeTerms(state.terms, nameOf)}.${weak ? ` ${weak} fit less well.` : ""}`);
}

import { byId, count, make } from "./dom.js";
import { announce, button, errorCard, explainInLine, messageCard, toast } from "./messages.js";
import { navigate } from "./navigation.js";
import { DEEPEST_RESULT, searchMore } from "./search.js";
import { describeTerms } from "./state.js";
import { resultTile, skeletons } from "./tiles.js";

const TITLES = { image: "Photos", text: "Captions", both: "Photos and captions" };

const container = () => byId("results");

/** "12 photos and 8 captions", with "first" where there are more. */
export function countSentence(sections) {
  const matches = sections.flatMap((section) => section.matches);
  const photos = matches.filter((match) => match.modality === "image").length;
  const captions = matches.length - photos;
  const asked = new Set(sections.map((section) => section.modality));
  const said = [];
  if (!asked.has("text") || photos) said.push(count(photos, "photo"));
  if ((asked.has("text") && (captions || !asked.has("image"))) || captions) said.push(count(captions, "caption"));
  const first = matches.length > 0 && sections.some((section) => section.hasMore);
  return `${first ? "First " : ""}${said.join(" and ") || "No results"}`;
}

/** Shows that a search runs: earlier results dim, an empty place gets grey shapes. */
export function showLoading(state) {
  const place = container();
  place.setAttribute("aria-busy", "true");
  if (place.querySelector("[data-testid=result]") && place.dataset.kind === "matches") return;
  place.dataset.kind = "loading";
  place.className = "results";
  place.replaceChildren(make("div", { class: "grid", data: { testid: "loading" } }, ...skeletons(Math.min(state.topK, 12))));
}

/** Shows why a search failed. */
export function showError(error, retry) {
  const place = container();
  place.removeAttribute("aria-busy");
  place.dataset.kind = "error";
  place.className = "results";
  place.replaceChildren(errorCard(error, retry));
}

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
    if (section.hasMore && section.matches.length < DEEPEST_RESULT) {
      const label = `Load more ${TITLES[section.modality].toLowerCase()}`;
      foot.append(button(label, { symbol: "down", on: { click: load }, testid: "load-more", "data-modality": section.modality }));
    } else if (section.atEnd || section.matches.length >= DEEPEST_RESULT) {
      foot.append(make("p", { class: "muted", text: `These are the first ${DEEPEST_RESULT.toLocaleString("en")}. Refine the search to see others.` }));
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

function drawSection(state, section, actions, { heading, onMore, retry }) {
  const testid = `section-${section.modality}`;
  const title = heading && make("h2", { class: "section-title", id: testid, text: TITLES[section.modality] });
  if (section.error) return make("section", { class: "section", data: { testid } }, title, errorCard(asProblem(section.error), retry));
  const grid = make(
    "div",
    { class: `grid grid-${section.modality}`, data: { testid: "results-grid" } },
    ...section.matches.map((match) => resultTile(match, actions)),
  );
  const empty = section.matches.length === 0 && make("p", { class: "muted", text: `No ${TITLES[section.modality].toLowerCase()} match.` });
  return make(
    "section",
    { class: `section section-${section.modality}`, "aria-label": TITLES[section.modality], data: { testid } },
    title,
    empty || grid,
    moreButton(state, section, grid, actions, onMore),
  );
}

const asProblem = (error) => Object.assign(new Error(error.title), error, { errors: error.errors ?? [] });

/**
 * Shows the sections of an answer.
 * @param {object} state
 * @param {{sections: object[]}} answer of search()
 * @param {{open: Function, more: Function, less: Function}} actions
 * @param {{onMore: Function, retry: Function}} hooks called after more has been loaded, and to search again
 */
export function showResults(state, answer, actions, { onMore, retry }) {
  const place = container();
  place.removeAttribute("aria-busy");
  place.dataset.kind = "matches";
  const { sections } = answer;
  place.className = `results ${sections.length > 1 ? "apart" : ""}`;
  if (sections.every((section) => section.matches.length === 0 && !section.error)) {
    place.className = "results";
    place.replaceChildren(nothingFound(state));
  } else {
    const heading = sections.length > 1;
    place.replaceChildren(...sections.map((section) => drawSection(state, section, actions, { heading, onMore, retry })));
  }
}

/** Tells screen readers what came. */
export function announceResults(state, answer, nameOf) {
  announce(`${countSentence(answer.sections)} for ${describeTerms(state.terms, nameOf)}.`);
}

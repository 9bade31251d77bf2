import { ROOT, api, logOut, lookUp } from "./api.js";
import { byId, count, debounce, fillIcons } from "./dom.js";
import { parseExpression } from "./expression.js";
import { forgetTags, havePlaces, setCalibrated, showFilters } from "./filters.js";
import { startHolding } from "./hold.js";
import { showIndexing, startIndexing } from "./indexing_view.js";
import { startKeyboard } from "./keyboard.js";
import { showLightbox, startLightbox } from "./lightbox.js";
import { announce, startConnection } from "./messages.js";
import { DEFAULTS, MAX_TERMS, currentState, describeTerms, isSearch, mainTermIndex, navigate, onNavigation, savedScroll, searchKey, startNavigation } from "./navigation.js";
import { searchWithPictures, startCamera, startPictureIntake } from "./picture_intake.js";
import { announceResults, refreshResults, showError, showLoading, showResults } from "./results.js";
import { abandonSearch, forgetAnswers, keptAnswer, search, setContents, shownMatches } from "./search.js";
import { clearSelection, startSelection } from "./selection.js";
import { forgetStartPage, galleryIds, rememberSearch, showGallery, showSuggestions, startRecentMenu } from "./start_page.js";
import { forgetPlane, nearIds, planeIds, showPlane } from "./plane.js";
import { showStatus } from "./status_view.js";
import { startSuggesting } from "./suggest.js";
import { addTerm, showTerms, termName } from "./terms.js";
import { forgetYears, showTimeline, startTimeline } from "./timeline.js";
import { setPlaces, showToolbar } from "./toolbar.js";

const TYPING_PAUSE_MS = 450;
/** Shorter texts are on their way to being words. */
const SHORTEST_TYPED = 3;

let shownKey = null;
let shownAnswer = null;
// The last status that the server answered, or null.
let status = Promise.resolve(null);
let lastSearch = DEFAULTS;
let typingBegan = false;
/** The search that runs. @type {{key: string}|null} */
let running = null;

const isHome = (state) => state.view === "search" && !state.terms.length;

const onPlane = (state) => isHome(state) && !state.moment && state.as !== "rows";

const actions = {
  open: (id) => navigate({ open: id }, { opened: true }),
  more: (item) => addTerm("id", item.id),
  less: (item) => addTerm("id", item.id, { less: true }),
};

function sequence() {
  if (isHome(currentState())) return onPlane(currentState()) ? nearIds() : galleryIds();
  return shownAnswer ? shownMatches(shownAnswer.section).map((match) => match.id) : [];
}

const matchOf = (id) => shownAnswer?.section.matches.find((match) => match.id === id);

function notice(sentence) {
  const place = byId("notice");
  place.hidden = !sentence;
  place.textContent = sentence ?? "";
}

function showNotice(state) {
  const uploads = state.terms.filter((term) => term.kind === "upload").length;
  if (state.leftOut) {
    notice(`This link left out ${count(state.leftOut, "uploaded picture")}: pictures stay in the browser that chose them. Add ${state.leftOut === 1 ? "it" : "them"} again to see the same results.`);
  } else if (uploads) {
    notice(`${uploads === 1 ? "Your picture is" : "Your pictures are"} kept in this tab only, so that a link to this search leaves ${uploads === 1 ? "it" : "them"} out.`);
  } else notice(null);
}

function drawAnswer(state, answer) {
  shownAnswer = answer;
  showToolbar(state, answer);
  showResults(state, answer, actions, { onMore: () => showToolbar(currentState(), answer), retry: () => runSearch(currentState()) });
}

function showBusy(seconds) {
  const words = `The server is busy. Trying again in ${Math.ceil(seconds)} s.`;
  byId("result-count").textContent = words;
  announce(words);
}

async function runSearch(state) {
  const focusWasInResults = byId("results").contains(document.activeElement);
  const run = { key: searchKey(state) };
  running = run;
  shownAnswer = null;
  showLoading(state);
  showToolbar(state, null);
  try {
    const answer = await search(state, { onRetry: showBusy });
    if (!answer) return;
    drawAnswer(currentState(), answer);
    announceResults(state, answer, termName);
    await nameTerms(state);
    rememberSearch(state);
    if (focusWasInResults && document.activeElement === document.body) byId("result-count")?.focus({ preventScroll: true });
  } catch (error) {
    showError(error, () => runSearch(currentState()));
    byId("toolbar").hidden = true;
  } finally {
    if (running === run) running = null;
  }
}

// A search is remembered by name, and a photo in it has one only when its document has been seen.
async function nameTerms(state) {
  const ids = state.terms.filter((term) => term.kind === "id").map((term) => term.value);
  await Promise.allSettled(ids.map((id) => lookUp(id)));
}

function showResultsOf(state, { returned, again }) {
  const key = searchKey(state);
  // Enter asks again for what the pause in typing has asked for; not while that is under way.
  if (key === shownKey && (!again || running?.key === key)) return;
  clearSelection();
  shownKey = key;
  if (!state.terms.some((term) => term.weight > 0)) {
    abandonSearch();
    shownAnswer = null;
    byId("toolbar").hidden = true;
    showError(Object.assign(new Error("Nothing is wanted yet. Add a sentence or a photo that you want to see more of; what is taken away comes after it.")), null);
    return;
  }
  const kept = returned ? keptAnswer(state) : undefined;
  if (kept) {
    abandonSearch();
    drawAnswer(state, kept);
    scrollTo(0, savedScroll());
    return;
  }
  if (!returned && !again) scrollTo(0, 0);
  runSearch(state);
}

function showHome(state, { returned }) {
  const key = searchKey(state);
  if (shownKey === key) return;
  shownKey = key;
  clearSelection();
  abandonSearch();
  shownAnswer = null;
  showToolbar(state, null);
  const wanted = () => isHome(currentState()) && searchKey(currentState()) === key;
  if (!returned) scrollTo(0, 0);
  havePlaces().then((known) => {
    setPlaces(known);
    if (wanted()) showToolbar(currentState(), null);
  });
  if (onPlane(state)) {
    showPlane(state, actions, wanted);
    return;
  }
  showGallery(state, actions, wanted).then(() => {
    if (returned && wanted()) scrollTo(0, savedScroll());
  });
}

function showSearchBox(state) {
  const main = mainTermIndex(state.terms);
  const text = main < 0 ? "" : state.terms[main].value;
  const box = byId("search-box");
  if (box.value.trim() !== text) box.value = text;
}

function showTitle(state) {
  const words = { status: "Status", add: "Add photos" }[state.view] ?? (state.terms.length ? describeTerms(state.terms, termName) : null);
  document.title = words ? `${words} · Crossmodal search` : "Crossmodal search";
  byId("page-title").textContent = state.terms.length ? "Search results" : "Find a photo by what is in it";
}

function showView(state) {
  document.documentElement.dataset.page = state.view === "search" ? "photos" : state.view;
  byId("contents").hidden = !isHome(state) || Boolean(state.filter || state.moment);
  byId("search-view").hidden = state.view !== "search";
  byId("status-view").hidden = state.view !== "status";
  byId("indexing-view").hidden = state.view !== "add";
  byId("site-menu").hidePopover();
  for (const link of document.querySelectorAll(".site-nav a")) {
    if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function show(state, details) {
  showView(state);
  showTitle(state);
  showStatus(state.view === "status");
  showIndexing(state.view === "add");
  if (state.view === "search") {
    lastSearch = state;
    showSearchBox(state);
    showTerms(state);
    showNotice(state);
    showFilters(state);
    showSuggestions(isHome(state) && !state.filter && !state.moment);
    if (isSearch(state)) showResultsOf(state, details);
    else showHome(state, details);
    if (shownAnswer) showToolbar(state, shownAnswer);
  } else {
    abandonSearch();
    if (shownAnswer === null) shownKey = null;
    scrollTo(0, 0);
  }
  showTimeline(state, isHome(state) && !state.moment && !onPlane(state));
  showLightbox(state);
}

/** The terms with the search box's text in place of the sentence they had. */
function termsWithTyped() {
  const typed = byId("search-box").value.trim();
  const { terms } = currentState();
  const main = mainTermIndex(terms);
  if (!typed) return terms.filter((_, position) => position !== main);
  const others = terms.filter((_, position) => position !== main);
  const parsed = parseExpression(typed);
  if (parsed) return [...parsed.terms, ...others].slice(0, MAX_TERMS);
  if (main < 0) return [{ kind: "text", value: typed, weight: 1 }, ...terms];
  return terms.map((term, position) => (position === main ? { ...term, value: typed } : term));
}

function startSearchBox() {
  const box = byId("search-box");
  const whileTyping = debounce(() => {
    const typed = box.value.trim();
    // What has several terms is read as a whole, when it is finished.
    if ((typed && typed.length < SHORTEST_TYPED) || parseExpression(typed)) return;
    const terms = termsWithTyped();
    if (JSON.stringify(terms) === JSON.stringify(currentState().terms)) return;
    // One sentence is one step for Back, however often its typing paused.
    navigate({ terms, open: null }, { replace: typingBegan });
    typingBegan = true;
  }, TYPING_PAUSE_MS);
  box.addEventListener("input", (event) => {
    if (!event.isComposing) whileTyping();
  });
  box.addEventListener("compositionend", whileTyping);
  box.addEventListener("blur", () => (typingBegan = false));
  byId("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    whileTyping.cancel();
    const terms = termsWithTyped();
    if (!terms.length) {
      box.focus();
      if (currentState().terms.length) navigate({ terms });
      return;
    }
    const literal = Boolean(parseExpression(box.value)?.quoted) || currentState().literal;
    navigate({ terms, literal, open: null }, { again: true, replace: typingBegan });
    typingBegan = false;
  });
}

function toSearch() {
  if (currentState().view !== "search") navigate(lastSearch);
  byId("search-box").focus();
  byId("search-box").select();
}

function startViewLinks() {
  document.querySelector(".site-nav [data-view=search]").addEventListener("click", (/** @type {MouseEvent} */ event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    navigate(currentState().view === "search" ? DEFAULTS : lastSearch);
  });
}

function readStatus() {
  // Where the server does not answer, the photos, or the results, show why.
  status = api.status().then(useStatus, () => null);
}

function useStatus(read) {
  setCalibrated(read.calibrated);
  setContents({ texts: read.texts.with_text > 0, captions: read.modalities.text.documents > 0 });
  byId("logout-button").hidden = !read.access.session;
  const { image, text } = read.modalities;
  const captions = text.documents ? `, ${count(text.documents, "caption")}` : "";
  byId("contents").textContent = `${count(image.documents, "photo")}${captions}`;
  return read;
}

function forgetIndex() {
  forgetAnswers();
  forgetStartPage();
  forgetPlane();
  forgetTags();
  forgetYears();
  shownKey = null;
  readStatus();
}

const writable = async () => Boolean((await status)?.writing.allowed);

// What is shown stays; all that is asked for later is asked anew.
function forgetDeleted() {
  forgetAnswers();
  forgetTags();
  readStatus();
}

function start() {
  fillIcons(document);
  startSearchBox();
  byId("logout-button").addEventListener("click", logOut);
  startViewLinks();
  startPictureIntake({ active: () => currentState().view === "search" && !document.querySelector("dialog[open]") });
  startCamera(searchWithPictures);
  startRecentMenu();
  startSuggesting();
  startIndexing({ changed: forgetIndex });
  startLightbox({
    actions,
    sequence,
    matchOf,
    writable,
    deleted: forgetDeleted,
    changed: (item) => {
      const match = matchOf(item.id);
      if (match) Object.assign(match, { captions: item.captions, tags: item.tags });
      forgetAnswers();
      forgetTags();
    },
  });
  startSelection({ sequence: () => (onPlane(currentState()) ? planeIds() : sequence()), writable, tagged: forgetDeleted, deleted: forgetDeleted });
  addEventListener("documents-hidden", () => {
    refreshResults();
    if (shownAnswer) showToolbar(currentState(), shownAnswer);
  });
  startKeyboard({ toSearch });
  startHolding();
  startTimeline();
  startConnection({
    whenBack: () => {
      readStatus();
      shownKey = null;
      show(currentState(), { returned: false, again: true });
    },
  });
  // Only where the browser trusts the way to the server; without it the page needs the server.
  navigator.serviceWorker?.register(`${ROOT}page/offline.js`, { scope: ROOT }).catch(() => undefined);
  readStatus();
  onNavigation(show);
  startNavigation();
  // On a phone the focus would open the keyboard over the photos.
  if (isHome(currentState()) && matchMedia("(pointer: fine)").matches) byId("search-box").focus();
}

start();

import { api, known } from "./api.js";
import { byId, count, make } from "./dom.js";
import { wantedValues, withCondition } from "./filters.js";
import { currentState, writeAddress } from "./navigation.js";

const MOST_YEARS = 200;

// The years of the photos that all of the filter but its year lets through.
let years = [];
let shownFilter;

/** Forgets the years, since the index has changed. */
export function forgetYears() {
  shownFilter = undefined;
}

const takenOf = (id) => {
  const taken = known(id)?.tags?.taken;
  return typeof taken === "string" ? taken : null;
};

/** "July 2019", of a date such as 2019-07-04T12:00. */
function monthSaid(taken) {
  const date = new Date(`${taken.slice(0, 7)}-15T12:00`);
  return Number.isNaN(date.getTime()) ? taken.slice(0, 4) : date.toLocaleDateString([], { month: "long", year: "numeric" });
}

function yearLink(state, value, text, title) {
  const wanted = wantedValues(state.filter, "year");
  const current = value === null ? !wanted.length : wanted.includes(value);
  const href = writeAddress({ ...state, filter: withCondition(state.filter, "year", value) });
  return make("a", { href, title, "aria-current": current && "true", data: { stateLink: "", testid: "year", year: value ?? "all" }, text });
}

/** Shows the years of the photos at the side, the newest first; each shows its photos alone. */
export async function showTimeline(state, visible) {
  const place = byId("timeline");
  if (!visible) {
    place.hidden = true;
    sayMonth();
    return;
  }
  const others = withCondition(state.filter, "year", null);
  const key = JSON.stringify(others);
  if (key !== shownFilter) {
    const filter = others ? { filter: key } : {};
    const answer = await api.facet({ tag: "year", sort: "-value", limit: MOST_YEARS, ...filter }).catch(() => null);
    if (!answer || currentState() !== state) return;
    years = answer.values;
    shownFilter = key;
  }
  place.hidden = years.length < 2;
  place.replaceChildren(
    yearLink(state, null, "All", "All years"),
    ...years.map(({ value, count: number }) => yearLink(state, value, String(value), count(number, "photo"))),
  );
}

/** Says of which month the photos at the top of the screen are, while one scrolls through them. */
function sayMonth() {
  const bubble = byId("month");
  const shown = !byId("timeline").hidden && scrollY > 150;
  const tile = shown && document.elementFromPoint(40, byId("search-form").getBoundingClientRect().bottom + 60)?.closest("#results [data-id]");
  const taken = tile ? takenOf(tile.dataset.id) : null;
  bubble.hidden = !taken;
  if (!taken) return;
  bubble.textContent = monthSaid(taken);
  for (const link of byId("timeline").children) link.classList.toggle("passing", link.dataset.year === taken.slice(0, 4));
}

/** Makes the month follow the scrolling. */
export function startTimeline() {
  let awaited = 0;
  addEventListener(
    "scroll",
    () => {
      cancelAnimationFrame(awaited);
      awaited = requestAnimationFrame(sayMonth);
    },
    { passive: true },
  );
}

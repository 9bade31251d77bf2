/**
 * Filters of the API, as the filter panel understands them: for each field the wanted values, the ends of a
 * range, and whether the tag has to exist. Whatever else a link's filter says is left as it is.
 *
 * @typedef {{values: Array, min: number|null, max: number|null, exists: boolean|null}} Choice
 */
const RESERVED = /^(modality$|tags\.|\$)/;

// "modality" alone means the document's modality, so that a tag of this name needs the long form.
const fieldOf = (tag) => (RESERVED.test(tag) ? `tags.${tag}` : tag);
const tagOf = (field) => (field.startsWith("tags.") ? field.slice("tags.".length) : field);

/** @returns {Choice} */
export const noChoice = () => ({ values: [], min: null, max: null, exists: null });

const isPlain = (value) => ["string", "number", "boolean"].includes(typeof value);

function readConditions(conditions) {
  if (isPlain(conditions)) return { ...noChoice(), values: [conditions] };
  if (!conditions || typeof conditions !== "object" || Array.isArray(conditions)) return null;
  const choice = noChoice();
  for (const [operator, operand] of Object.entries(conditions)) {
    if (operator === "$in" && Array.isArray(operand) && operand.every(isPlain)) choice.values = operand;
    else if (operator === "$eq" && isPlain(operand)) choice.values = [operand];
    else if (operator === "$gte" && typeof operand === "number") choice.min = operand;
    else if (operator === "$lte" && typeof operand === "number") choice.max = operand;
    else if (operator === "$exists" && typeof operand === "boolean") choice.exists = operand;
    else return null;
  }
  return choice;
}

/**
 * The panel's choices for a filter.
 * @param {object|null} filter
 * @returns {Map<string, Choice>|null} by tag; null where the filter says more than the panel can show
 */
export function readChoices(filter) {
  const choices = new Map();
  for (const [field, conditions] of Object.entries(filter ?? {})) {
    const choice = field === "modality" || field.startsWith("$") ? null : readConditions(conditions);
    if (!choice) return null;
    choices.set(tagOf(field), choice);
  }
  return choices;
}

/** The filter of these choices, or null where nothing is chosen. */
export function writeFilter(choices) {
  const filter = {};
  for (const [tag, { values, min, max, exists }] of choices) {
    const conditions = {
      ...(values.length ? { $in: values } : {}),
      ...(min !== null ? { $gte: min } : {}),
      ...(max !== null ? { $lte: max } : {}),
      ...(exists !== null ? { $exists: exists } : {}),
    };
    if (Object.keys(conditions).length) filter[fieldOf(tag)] = conditions;
  }
  return Object.keys(filter).length ? filter : null;
}

/** What a choice says in words, one sentence part for each condition: {label, without}. */
export function describeChoice(tag, choice) {
  const said = [];
  if (choice.values.length) said.push({ label: `${tag}: ${choice.values.join(" or ")}`, without: { ...choice, values: [] } });
  if (choice.min !== null || choice.max !== null) {
    const { min, max } = choice;
    const range = min === null ? `at most ${max}` : max === null ? `at least ${min}` : `${min} to ${max}`;
    said.push({ label: `${tag}: ${range}`, without: { ...choice, min: null, max: null } });
  }
  if (choice.exists !== null) said.push({ label: choice.exists ? `has ${tag}` : `without ${tag}`, without: { ...choice, exists: null } });
  return said;
}

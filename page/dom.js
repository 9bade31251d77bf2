/**
 * Builds an element. Data reaches it as text or attribute values only, never as markup.
 * @param {string} tag
 * @param {{class?: string, text?: string, data?: object, on?: object, [attribute: string]: unknown}} [properties]
 *   `data` fills dataset, `on` adds listeners; true sets an empty attribute, false and null leave it out.
 * @param {...(Node|string|null|false)} children
 * @returns {HTMLElement}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { class: className, text, data, on, ...attributes } = properties;
  if (className) element.className = className;
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(data ?? {})) {
    if (value !== null && value !== undefined) element.dataset[name] = value;
  }
  for (const [name, listener] of Object.entries(on ?? {})) element.addEventListener(name, listener);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Builds an SVG element from plain attributes. */
export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** The element with this id; it is in index.html. */
export const byId = (id) => document.getElementById(id);

/**
 * Replaces a container's children and gives the focus back to the child with the same data-focus-key,
 * so that redrawing never throws a keyboard user out.
 */
export function redraw(container, ...children) {
  const key = container.contains(document.activeElement) ? document.activeElement.dataset.focusKey : null;
  container.replaceChildren(...children.filter(Boolean));
  if (key) container.querySelector(`[data-focus-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** Calls back once, `wait` milliseconds after the last call; `cancel` drops a pending one. */
export function debounce(callback, wait) {
  let timer = 0;
  const debounced = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => callback(...values), wait);
  };
  debounced.cancel = () => clearTimeout(timer);
  return debounced;
}

/** "1 photo", "12 photos". */
export function count(number, singular, plural = `${singular}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? singular : plural}`;
}

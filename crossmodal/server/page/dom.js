/**
 * Builds an element. Data reaches it as text or attribute values only, never as markup.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {{class?: string, text?: string, data?: object, on?: object, [attribute: string]: unknown}} [properties]
 *   `data` fills dataset, `on` adds listeners; true sets an empty attribute, false and null leave it out.
 * @param {...(Node|string|number|null|undefined|boolean)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { class: className, text, data, on, ...attributes } = properties;
  if (className) element.className = className;
  // What is indexed runs in its own direction, whatever that of the page is.
  if (text !== undefined && text !== null) Object.assign(element, { textContent: text, dir: "auto" });
  for (const [name, value] of Object.entries(data ?? {})) {
    if (value !== null && value !== undefined) element.dataset[name] = value;
  }
  for (const [name, listener] of Object.entries(on ?? {})) element.addEventListener(name, listener);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(.../** @type {(Node|string)[]} */ (children.filter((child) => child !== null && child !== undefined && child !== false)));
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

/** The element with this id; it is in index.html. @returns {any} */
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

/** Where an arrow key leads along a line of text: 1 on, -1 back, else 0. */
export const along = (key) => ({ ArrowRight: 1, ArrowLeft: -1 })[key] * (document.dir === "rtl" ? -1 : 1) || 0;

/** Places an element that floats under another one, as wide as that. */
export function placeBelow(element, other) {
  const { bottom, left, width } = other.getBoundingClientRect();
  Object.assign(element.style, { top: `${bottom + 6}px`, left: `${left}px`, width: `${width}px` });
}

/** "1 photo", "12 photos". */
export function count(number, singular, plural = `${singular}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? singular : plural}`;
}

/** Outlines on a 24 x 24 field, drawn for this page. */
const PATHS = {
  search: ["M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Z", "m15.5 15.5 4.5 4.5"],
  image: ["M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1Z", "m4.5 17 4.5-5 4 4 2.5-2.5 4 4", "M15.5 8.5h.01"],
  camera: ["M4 8h3l2-3h6l2 3h3a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V9a1 1 0 0 1 1-1Z", "M12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7Z"],
  clock: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z", "M12 8v4.5l3 1.5"],
  theme: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z", "M12 4v16", "M12 8a4 4 0 0 1 0 8"],
  help: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z", "M9.8 10a2.2 2.2 0 1 1 3.3 1.9c-.8.5-1.1.9-1.1 1.7", "M12 16.4h.01"],
  close: ["M6 6l12 12", "M18 6 6 18"],
  plus: ["M12 5v14", "M5 12h14"],
  minus: ["M5 12h14"],
  filter: ["M4 7h10", "M18 7h2", "M16 5v4", "M4 12h3", "M11 12h9", "M9 10v4", "M4 17h8", "M16 17h4", "M14 15v4"],
  menu: ["M4 7h16", "M4 12h16", "M4 17h16"],
  left: ["m14.5 5-7 7 7 7"],
  right: ["m9.5 5 7 7-7 7"],
  down: ["m6 9 6 6 6-6"],
  link: ["M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1", "M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1"],
  code: ["m8 8-4 4 4 4", "m16 8 4 4-4 4"],
  download: ["M12 4v11", "m7.5 11 4.5 4.5 4.5-4.5", "M5 20h14"],
  trash: ["M4 7h16", "M9 7V4h6v3", "M6.5 7l1 13h9l1-13", "M10 11v5", "M14 11v5"],
  info: ["M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z", "M12 11v5", "M12 8h.01"],
  star: ["m12 4 2.4 5.2 5.6.6-4.2 3.8 1.2 5.6L12 16.4l-5 2.8 1.2-5.6L4 9.8l5.6-.6Z"],
  pin: ["M12 20s6-5.6 6-10a6 6 0 0 0-12 0c0 4.4 6 10 6 10Z", "M12 8.5a1.6 1.6 0 1 0 0 3.2 1.6 1.6 0 0 0 0-3.2Z"],
  edit: ["M4 20l1-4L16 5l3 3L8 19l-4 1Z"],
  tag: ["M4 4h8l8 8-8 8-8-8V4Z", "M8 8h.01"],
  folder: ["M4 6h5l2 2h9a0 0 0 0 1 0 0v10a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V6Z"],
  retry: ["M19 12a7 7 0 1 1-2-5", "M17.5 3.5V7H14"],
  warning: ["M12 4.5 3.5 19h17L12 4.5Z", "M12 10v4", "M12 16.5h.01"],
  check: ["m5 12.5 4.5 4.5L19 7.5"],
};

/** A decorative icon, 1.25em large, in the text's colour. */
export function icon(name) {
  const paths = PATHS[name].map((d) => makeSvg("path", { d }));
  return makeSvg(
    "svg",
    {
      class: "icon",
      viewBox: "0 0 24 24",
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.7,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
      "aria-hidden": "true",
      focusable: "false",
    },
    ...paths,
  );
}

/** Puts icons into the elements of index.html that ask for one with data-icon. */
export function fillIcons(root) {
  for (const element of root.querySelectorAll("[data-icon]")) element.prepend(icon(element.dataset.icon));
}

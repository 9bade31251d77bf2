// What the page's scripts take from the DOM without asking of which kind an element is.
interface EventTarget {
  [property: string]: any;
}

interface Element {
  dataset: DOMStringMap;
  [property: string]: any;
}

/** What index.html has asked before the modules are there. */
declare var early: { path: string; body?: string; answer: Promise<Response> } | null | undefined;

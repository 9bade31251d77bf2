// What the page's scripts take from the DOM without asking of which kind an element is.
interface EventTarget {
  [property: string]: any;
}

interface Element {
  dataset: DOMStringMap;
  [property: string]: any;
}

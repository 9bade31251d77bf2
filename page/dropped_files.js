/** File endings of photos; browsers know no type for some of them. */
const PHOTO_NAME = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|heic|heif)$/i;

/** Whether a file looks like a photo, by its type or its name. */
export const isPhoto = (file) => (file.type.startsWith("image/") && file.type !== "image/svg+xml") || PHOTO_NAME.test(file.name);

async function* entriesOf(directory) {
  const reader = directory.createReader();
  // A reader hands over at most a hundred entries at a time, and none when it is done.
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return;
    yield* entries;
  }
}

async function* filesOf(entry) {
  if (entry.isFile) yield new Promise((resolve, reject) => entry.file(resolve, reject));
  else if (entry.isDirectory) for await (const inner of entriesOf(entry)) yield* filesOf(inner);
}

/**
 * All files of a drop, folders searched to any depth.
 * @param {DataTransfer} transfer
 * @returns {Promise<File[]>}
 */
export async function droppedFiles(transfer) {
  // The transfer is emptied when the event is over: take the entries before the first await.
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.length || entries.includes(null)) return [...transfer.files];
  const files = [];
  for (const entry of entries) for await (const file of filesOf(entry)) files.push(file);
  return files;
}

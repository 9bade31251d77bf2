/** Pictures that this visitor searches with: kept in this tab's memory only. */
const uploads = new Map();
let made = 0;

/**
 * Keeps a scaled picture and answers its key.
 * @param {{name: string, blob: Blob, dataUri: string, width: number, height: number}} picture
 */
export function addUpload(picture) {
  made += 1;
  const key = `${made}:${picture.name}`;
  uploads.set(key, { ...picture, url: URL.createObjectURL(picture.blob) });
  return key;
}

export const hasUpload = (key) => uploads.has(key);

/** The picture of a key: {name, blob, dataUri, url, width, height}. */
export const upload = (key) => uploads.get(key);

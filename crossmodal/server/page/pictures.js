import { ENDINGS, FORMATS } from "./formats.js";

/** What a file chooser lets through: what browsers know as pictures, and the endings that they don't know. */
export const PHOTO_TYPES = ["image/*", ...ENDINGS].join(",");

/** Whether a file is a photo by its name. */
export const hasPhotoName = (name) => ENDINGS.some((ending) => name.toLowerCase().endsWith(ending));

/** What browsers decode themselves: one that they cannot read is no photo for the server either. */
const DECODED_HERE = /\.(jpe?g|jpe|jfif|png|apng|webp|gif|bmp)$/i;

/** Longer side of a picture sent as a query, in pixels; models look at far fewer. */
const LONGER_SIDE = 1024;
const JPEG_QUALITY = 0.9;

/** A picture that cannot be used, with a sentence for the visitor. */
export class PictureError extends Error {}

function asDataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new PictureError("The picture could not be read."));
    reader.readAsDataURL(blob);
  });
}

/**
 * Decodes a picture upright and scales it down to a JPEG of at most LONGER_SIDE pixels. A photo that only the
 * server can decode stays as it is, and has no width and height.
 * @param {File} file any image
 * @returns {Promise<{name: string, blob: Blob, dataUri: string, width: number, height: number}>}
 * @throws {PictureError} where it is no photo, also by its name
 */
export async function scalePicture(file) {
  const name = file.name || "picture";
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    if (hasPhotoName(name) && !DECODED_HERE.test(name)) return { name, blob: file, dataUri: await asDataUri(file), width: 0, height: 0 };
    throw new PictureError(`${name} (${file.type || "unknown type"}) is not a picture that can be read. Photos are ${FORMATS}.`);
  }
  const scale = Math.min(1, LONGER_SIDE / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // JPEG has no transparency, and black would look like part of the picture
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
  if (!blob) throw new PictureError(`${name} could not be scaled down by this browser.`);
  return { name, blob, dataUri: await asDataUri(blob), width, height };
}

/** Pictures that this visitor searches with: kept in this tab's memory only. */
const uploads = new Map();
let made = 0;

/** Keeps what scalePicture() made and answers its key. */
export function addUpload(picture) {
  made += 1;
  const key = `${made}:${picture.name}`;
  uploads.set(key, { ...picture, url: URL.createObjectURL(picture.blob) });
  return key;
}

export const hasUpload = (key) => uploads.has(key);

/** The picture of a key: {name, blob, dataUri, url, width, height}. */
export const upload = (key) => uploads.get(key);

import { toast } from "./announce.js";
import { byId } from "./dom.js";
import { PictureError, scalePicture } from "./image_scaling.js";
import { addTerm } from "./terms.js";
import { addUpload } from "./uploads.js";

const OWN_DOCUMENT = [/^\/v1\/documents\/([^/]+)(?:\/(?:content|thumbnail))?$/, /^\/images\/([^/]+)$/];
const LONGEST_NAME = 40;

/** The id of an indexed photo that an address on this server stands for, or null. */
export function ownDocument(address) {
  let url;
  try {
    url = new URL(address, location.href);
  } catch {
    return null;
  }
  if (url.origin !== location.origin) return null;
  const opened = url.pathname === "/" ? url.searchParams.get("open") : null;
  if (opened) return opened;
  for (const pattern of OWN_DOCUMENT) {
    const found = pattern.exec(url.pathname);
    if (found) return decodeURIComponent(found[1]);
  }
  return null;
}

/** Adds pictures to the search, each scaled down first; what cannot be read is said. */
export async function searchWithPictures(files) {
  for (const file of files) {
    try {
      addTerm("upload", addUpload(await scalePicture(file)));
    } catch (error) {
      if (!(error instanceof PictureError)) throw error;
      toast(error.message, { kind: "error" });
    }
  }
}

function fromDataUri(address) {
  const found = /^data:(image\/[\w.+-]+);base64,([A-Za-z0-9+/=\s]+)$/.exec(address);
  if (!found) return null;
  const bytes = Uint8Array.from(atob(found[2].replace(/\s/g, "")), (letter) => letter.charCodeAt(0));
  return new File([bytes], "dropped picture", { type: found[1] });
}

const shorten = (text) => (text.length > LONGEST_NAME ? `${text.slice(0, LONGEST_NAME)}…` : text);

function addressesOf(transfer) {
  const list = transfer.getData("text/uri-list") || transfer.getData("text/plain");
  return list
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line && !line.startsWith("#"));
}

/**
 * Searches with whatever picture a drop or a paste hands over: one of this server's photos, bytes, or neither,
 * and then says what to do, because the server fetches nothing from elsewhere.
 * @param {DataTransfer} transfer
 * @returns {boolean} whether it held anything to act on
 */
function take(transfer, { addressesCount }) {
  const files = [...transfer.files];
  const addresses = addressesCount ? addressesOf(transfer) : [];
  const own = addresses.map(ownDocument).find(Boolean);
  if (own) {
    addTerm("id", own);
    return true;
  }
  if (files.length) {
    searchWithPictures(files);
    return true;
  }
  const embedded = addresses.map(fromDataUri).find(Boolean);
  if (embedded) {
    searchWithPictures([embedded]);
    return true;
  }
  if (!addresses.length) return false;
  if (!/^https?:/i.test(addresses[0])) return false;
  toast(
    `The browser handed over only an address (${shorten(addresses[0])}), and this server fetches nothing from other sites. ` +
      "Save the picture and drop the file, or copy the picture itself and paste it here.",
    { kind: "error" },
  );
  return true;
}

/** Makes the whole page take pictures that are dropped or pasted, and the button choose some. */
export function startPictureIntake({ active }) {
  const overlay = byId("drop-overlay");
  let depth = 0;
  const hide = () => {
    depth = 0;
    overlay.hidden = true;
  };
  const carriesPicture = (transfer) => [...transfer.types].some((type) => type === "Files" || type === "text/uri-list");

  addEventListener("dragenter", (event) => {
    if (!active() || !carriesPicture(event.dataTransfer)) return;
    depth += 1;
    overlay.hidden = false;
  });
  addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) hide();
  });
  addEventListener("dragover", (event) => {
    // Without this the browser would leave the page and show the dropped file.
    if (carriesPicture(event.dataTransfer)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    hide();
    if (!carriesPicture(event.dataTransfer)) return;
    event.preventDefault();
    if (active() && !take(event.dataTransfer, { addressesCount: true })) {
      toast("What was dropped holds no picture. Drop an image file, or copy a picture and paste it.", { kind: "error" });
    }
  });
  addEventListener("dragend", hide);

  addEventListener("paste", (event) => {
    if (!active() || !event.clipboardData) return;
    const typing = event.target.closest?.("input:not([type=file]), textarea");
    // Text pasted into a field is text, even where it is an address.
    if (event.clipboardData.files.length ? take(event.clipboardData, { addressesCount: false }) : !typing && take(event.clipboardData, { addressesCount: true })) {
      event.preventDefault();
    }
  });

  for (const id of ["image-input", "camera-input"]) {
    byId(id).addEventListener("change", async (event) => {
      const files = [...event.target.files];
      event.target.value = ""; // choosing the same file again counts as a change
      await searchWithPictures(files);
    });
  }
  byId("choose-image-button").addEventListener("click", () => byId("image-input").click());
}

import { ROOT } from "./api.js";
import { byId, make } from "./dom.js";
import { button, toast } from "./messages.js";
import { addUpload, PHOTO_TYPES, PictureError, scalePicture } from "./pictures.js";
import { addTerm } from "./terms.js";

const OWN_DOCUMENT = [/^v1\/documents\/([^/]+)(?:\/(?:content|thumbnail))?$/, /^images\/([^/]+)$/];
const LONGEST_NAME = 40;

/** The id of an indexed photo that an address on this server stands for, or null. */
function ownDocument(address) {
  let url;
  try {
    url = new URL(address, location.href);
  } catch {
    return null;
  }
  if (url.origin !== location.origin || !url.pathname.startsWith(ROOT)) return null;
  const path = url.pathname.slice(ROOT.length);
  const opened = path === "" ? url.searchParams.get("open") : null;
  if (opened) return opened;
  for (const pattern of OWN_DOCUMENT) {
    const found = pattern.exec(path);
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
  byId("image-input").accept = PHOTO_TYPES;
  byId("choose-image-button").addEventListener("click", () => byId("image-input").click());
}

const REASONS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it in the browser's site settings, or choose a picture instead.",
  NotFoundError: "This device has no camera that the browser can use. Choose a picture instead.",
  NotReadableError: "Another program is using the camera. Close it and try again, or choose a picture instead.",
};

function frameOf(video) {
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.95));
}

async function openCamera(onPicture) {
  const dialog = byId("camera");
  const video = make("video", { autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
  video.muted = true;
  const said = make("p", { class: "muted", role: "status", text: "Waiting for the camera…" });
  const take = button("Take the picture", { kind: "primary", disabled: true, testid: "camera-take" });
  const choose = button("Choose a picture instead", { on: { click: () => (dialog.close(), byId("image-input").click()) } });
  dialog.replaceChildren(
    make("h2", { id: "camera-title", text: "Search with the camera" }),
    video,
    said,
    make("div", { class: "sheet-actions" }, button("Cancel", { on: { click: () => dialog.close() } }), choose, take),
  );
  dialog.showModal();
  let stream = null;
  dialog.addEventListener("close", () => stream?.getTracks().forEach((track) => track.stop()), { once: true });
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    said.textContent = REASONS[error.name] ?? `The camera cannot be used: ${error.message}`;
    video.hidden = true;
    return;
  }
  if (!dialog.open) {
    stream.getTracks().forEach((track) => track.stop()); // it was closed while the browser asked
    return;
  }
  video.srcObject = stream;
  await video.play();
  said.textContent = "The picture stays in this browser and is sent only as a search.";
  take.disabled = false;
  take.addEventListener("click", async () => {
    const picture = await frameOf(video);
    dialog.close();
    onPicture([picture]);
  });
}

/** Makes the camera button work: live on a secure origin, through the phone's own camera elsewhere. */
export function startCamera(onPicture) {
  byId("camera-button").addEventListener("click", () => {
    if (navigator.mediaDevices?.getUserMedia) openCamera(onPicture);
    else byId("camera-input").click();
  });
}

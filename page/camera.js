import { byId, make } from "./dom.js";
import { button } from "./messages.js";

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

/**
 * Makes the camera button take a picture: live where the browser lets a page see the camera (a secure origin),
 * through the phone's own camera where not.
 */
export function startCamera(onPicture) {
  byId("camera-button").addEventListener("click", () => {
    if (navigator.mediaDevices?.getUserMedia) openCamera(onPicture);
    else byId("camera-input").click();
  });
}

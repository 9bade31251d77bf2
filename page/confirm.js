import { byId, make } from "./dom.js";
import { button } from "./messages.js";

/**
 * Asks before something that cannot be undone.
 * @param {{title: string, detail: string, action: string}} question
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, detail, action }) {
  const dialog = byId("confirm");
  dialog.returnValue = "";
  dialog.replaceChildren(
    make("h2", { id: "confirm-title", text: title }),
    make("p", { text: detail }),
    make(
      "div",
      { class: "sheet-actions" },
      button("Keep it", { on: { click: () => dialog.close("no") }, testid: "confirm-no" }),
      button(action, { kind: "danger", on: { click: () => dialog.close("yes") }, testid: "confirm-yes" }),
    ),
  );
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

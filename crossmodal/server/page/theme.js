// Runs before the first paint, so that a chosen theme never flashes the other one: hence a classic script.
(() => {
  const KEY = "crossmodal.theme";
  const root = document.documentElement;

  const systemTheme = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const currentTheme = () => root.dataset.theme ?? systemTheme();

  function storedTheme() {
    try {
      const value = localStorage.getItem(KEY);
      return value === "dark" || value === "light" ? value : null;
    } catch {
      return null; // storage may be forbidden; the system's theme is used then
    }
  }

  function describe(button) {
    const other = currentTheme() === "dark" ? "light" : "dark";
    button.setAttribute("aria-label", `Use the ${other} theme`);
    button.title = `Use the ${other} theme`;
  }

  const chosen = storedTheme();
  if (chosen) root.dataset.theme = chosen;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme-toggle");
    if (!button) return; // the page on which to log in has none
    describe(button);
    button.addEventListener("click", () => {
      root.dataset.theme = currentTheme() === "dark" ? "light" : "dark";
      describe(button);
      try {
        if (root.dataset.theme === systemTheme()) localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        return; // the choice holds for this visit only
      }
    });
  });
})();

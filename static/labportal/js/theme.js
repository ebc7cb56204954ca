// Before the first paint: light or dark, by the stored choice or else the system's, and what only scripts can do.
(() => {
  document.documentElement.classList.add("scripted");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = null;
    try { chosen = localStorage.getItem("theme"); } catch { /* storage may be forbidden */ }
    if (chosen !== "dark" && chosen !== "light") chosen = dark.matches ? "dark" : "light"; // the admin stores "auto"
    document.documentElement.dataset.bsTheme = chosen;
  };
  apply();
  dark.addEventListener("change", apply);
})();

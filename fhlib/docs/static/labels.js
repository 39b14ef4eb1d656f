// Names for a screen reader, which the theme leaves out.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("summary:has(.toctree-toggle)")) {
    const page = summary.closest("li").querySelector("a");
    summary.setAttribute("aria-label", `Pages below ${page ? page.textContent.trim() : ""}`);
  }
  for (const button of document.querySelectorAll(".search-button__button")) {
    button.setAttribute("aria-label", "Search Ctrl+K");
  }
});

// The HTTP interface at `/docs`, drawn by Swagger UI from what serving says of itself.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const follow = () => root.classList.toggle("dark-mode", (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark");

follow();
system.addEventListener("change", follow);
// Swagger UI makes HTML of the description's Markdown, and cleans it itself; the content policy
// goes on refusing scripts that are inline, of text, or from elsewhere.
window.trustedTypes?.createPolicy("default", { createHTML: (html) => html });
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#interface",
  deepLinking: true,
  validatorUrl: null, // else it may show the description to a validator elsewhere
});

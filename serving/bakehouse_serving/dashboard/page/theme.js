// Light or dark, before anything is drawn: the one script that is no module, since modules wait.
(() => {
  const chosen = localStorage.getItem("bakehouse-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();

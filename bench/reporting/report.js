"use strict";

// The first mistake is left on the root element, where tests look for it.
const root = document.documentElement;
addEventListener("error", (event) => (root.dataset.error ??= event.message));
addEventListener("securitypolicyviolation", (event) => (root.dataset.error ??= event.violatedDirective));

function show(section, picture, stage) {
  const range = section.querySelector("input");
  const panes = picture.stages[stage];
  range.value = stage;
  range.setAttribute("aria-valuetext", panes[0][1]);
  section.querySelector("output").textContent = panes[0][1];
  section.querySelectorAll("figure").forEach((figure, i) => {
    const [image, words] = panes[i];
    const shown = figure.querySelector("img");
    shown.src = picture.images[image];
    shown.alt = `${picture.name}, ${picture.panes[i]}: ${words}`;
    figure.querySelector("span").textContent = words;
  });
}

addEventListener("DOMContentLoaded", () => {
  const pictures = JSON.parse(document.getElementById("data").textContent);
  const sections = document.querySelectorAll("section.picture");

  // #picture=0&stage=3; other addresses change nothing.
  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const [i, stage] = ["picture", "stage"].map((name) => parseInt(asked.get(name), 10));
    if (!pictures[i]?.stages[stage]) return null;
    show(sections[i], pictures[i], stage);
    return sections[i];
  }

  sections.forEach((section, i) => {
    const range = section.querySelector("input");
    range.addEventListener("input", () => show(section, pictures[i], range.value));
    range.addEventListener("change", () => location.replace(`#picture=${i}&stage=${range.value}`));
  });
  addEventListener("hashchange", follow);
  follow()?.scrollIntoView();
});

// Pages of classes: choosing many machines, kept while the table is fetched anew; full screen.

const boxes = (form) => [...form.querySelectorAll("input[name=machine]")];
let chosen = new Set();

function show() {
  const form = document.querySelector("[data-bulk]");
  if (!form) return;
  const all = boxes(form);
  const count = all.filter((box) => box.checked).length;
  const words = form.querySelector("[data-chosen]");
  words.dataset.none ??= words.textContent;
  words.textContent = count === 0 ? words.dataset.none : count === 1 ? words.dataset.one : words.dataset.many.replace("%s", count);
  form.querySelector(".bulk").classList.toggle("sticks", count > 0);
  form.querySelector(".bulk").classList.toggle("idle", count === 0);
  for (const button of form.querySelectorAll(".bulk button")) button.disabled = count === 0;
  const whole = form.querySelector("[data-choose-all]");
  whole.hidden = false;
  whole.checked = count > 0 && count === all.length;
  whole.indeterminate = count > 0 && count < all.length;
}

document.addEventListener("change", ({ target }) => {
  const form = target.closest("[data-bulk]");
  if (!form) return;
  if (target.matches("[data-choose-all]")) for (const box of boxes(form)) box.checked = target.checked;
  show();
});

document.addEventListener("htmx:beforeSwap", () => {
  chosen = new Set([...document.querySelectorAll("[data-bulk] input[name=machine]:checked")].map((box) => box.value));
});
document.addEventListener("htmx:afterSwap", () => {
  for (const box of document.querySelectorAll("[data-bulk] input[name=machine]")) box.checked = chosen.has(box.value);
  show();
});

const button = document.querySelector("[data-full-screen]");
if (button && document.fullscreenEnabled) {
  button.hidden = false;
  button.addEventListener("click", () => document.documentElement.requestFullscreen());
}
addEventListener("pageshow", show);
show();

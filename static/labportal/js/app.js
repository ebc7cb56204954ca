// What every page does: answers a click at once, copies, opens dialogs, keeps times going.
import { startLive } from "./live.js";
import { startTimes } from "./times.js";

const toasts = document.getElementById("toasts");

export function toast(text, level = "info") {
  const line = document.createElement("div");
  line.className = `toast-line ${level}`;
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "✕";
  close.setAttribute("aria-label", toasts.dataset.dismiss);
  close.addEventListener("click", () => line.remove());
  line.append(words, close);
  toasts.append(line);
  if (level !== "error") setTimeout(() => line.remove(), 6000);
}

// -- busy at once ---------------------------------------------------------------------------
// A submit button with data-busy="Starting…" says so within the same frame, and so does the state
// of the machine around it. The truth comes with the answer or the live feed.

function busy(form, button) {
  if (!button || form.dataset.sent) return;
  form.dataset.sent = "1";
  button.classList.add("busy");
  button.setAttribute("aria-disabled", "true");
  const spinner = document.createElement("span");
  spinner.className = "spin";
  spinner.setAttribute("aria-hidden", "true");
  const word = button.dataset.busy ?? button.textContent.trim();
  button.dataset.was = button.innerHTML;
  button.replaceChildren(spinner, word);
  const state = form.dataset.busyState === undefined ? null : form.closest("[data-machine]")?.querySelector("[data-state]");
  if (state && button.dataset.busy) {
    state.className = "state state-moving";
    state.replaceChildren(spinner.cloneNode(), button.dataset.busy);
  }
}

function ready(form) {
  delete form.dataset.sent;
  for (const button of form.querySelectorAll(".busy")) {
    button.classList.remove("busy");
    button.removeAttribute("aria-disabled");
    button.innerHTML = button.dataset.was;
  }
}

addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) event.preventDefault();
  else busy(form, event.submitter ?? form.querySelector("[type=submit]"));
}, { capture: true });

// Coming back by the browser's Back button shows the page as it was left: busy.
addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("form[data-sent]").forEach(ready);
});

document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.target.closest?.("form[data-sent]");
  if (form?.isConnected) ready(form);
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig.verb !== "get") toast(toasts.dataset.offline, "error");
});
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.requestConfig.verb !== "get") toast(toasts.dataset.refused, "error");
});
document.addEventListener("portal:messages", (event) => {
  for (const { text, level } of event.detail.messages) toast(text, level);
});

// -- copy -----------------------------------------------------------------------------------

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https the clipboard is closed to scripts: select the text for Ctrl-C instead.
    const code = button.parentElement.querySelector("code");
    if (code) getSelection().selectAllChildren(code);
    return;
  }
  const word = button.querySelector("[data-word]");
  const before = word.textContent;
  word.textContent = button.dataset.done;
  setTimeout(() => { word.textContent = before; }, 2000);
}

// -- dialogs --------------------------------------------------------------------------------
// <a href="…" data-dialog>: what the link leads to is shown in the dialog of base.html. Without
// scripts the link leads to the same as a page.

const dialog = document.getElementById("dialog");

async function openDialog(link) {
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(link.href, { headers: { "HX-Request": "true" } });
    if (!answer.ok || answer.headers.has("HX-Redirect") || answer.redirected) throw new Error(answer.statusText);
    dialog.innerHTML = await answer.text();
    dialog.returnFocus = link.id || link.closest("details.menu")?.id;
    link.closest("details.menu")?.removeAttribute("open");
    window.htmx?.process(dialog);
    dialog.showModal();
    dialog.querySelector("[autofocus]")?.focus();
  } catch {
    location.assign(link.href);
  } finally {
    link.removeAttribute("aria-busy");
  }
}

dialog?.addEventListener("close", () => {
  dialog.replaceChildren();
  const element = document.getElementById(dialog.returnFocus);
  (element?.matches("details") ? element.querySelector("summary") : element)?.focus();
});

// -- clicks ---------------------------------------------------------------------------------

addEventListener("click", (event) => {
  const target = event.target.closest?.("[data-copy], [data-dialog], [data-close], [data-theme-switch]");
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.removeAttribute("open");
  }
  if (!target) return;
  if (target.dataset.copy !== undefined) copy(target);
  else if (target.dataset.themeSwitch !== undefined) switchTheme();
  else if (target.dataset.dialog !== undefined && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    openDialog(target);
  } else if (target.dataset.close !== undefined && dialog.contains(target)) {
    event.preventDefault();
    dialog.close();
  }
});

addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest?.("details.menu[open]");
  if (menu) {
    menu.removeAttribute("open");
    menu.querySelector("summary").focus();
  }
});

function switchTheme() {
  const root = document.documentElement;
  root.dataset.bsTheme = root.dataset.bsTheme === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.bsTheme); } catch { /* for this page only */ }
}

for (const button of document.querySelectorAll("[data-theme-switch]")) button.hidden = false;
startTimes();
startLive();

// What every page does: answers a click at once, copies, opens dialogs, keeps times going.
import { refreshAll, refreshAround, startLive } from "./live.js";
import { showTimes, startTimes } from "./times.js";

const toasts = document.getElementById("toasts");
const dialog = document.getElementById("dialog");

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
  const machine = form.dataset.busyState === undefined ? null : form.closest("[data-machine]");
  const state = machine?.querySelector("[data-state]");
  if (state && button.dataset.busy) {
    state.className = "state state-moving";
    state.replaceChildren(spinner.cloneNode(), button.dataset.busy);
    machine.querySelector("[data-since]")?.replaceChildren(); // said of the state before
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
  if (form.dataset.sent) {
    event.preventDefault();
    event.stopImmediatePropagation();
  } else busy(form, event.submitter ?? form.querySelector("[type=submit]"));
}, { capture: true });

// Coming back by the browser's Back button shows the page as it was left: busy.
addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("form[data-sent]").forEach(ready);
});

// A form with hx-swap="none" is answered without content: the fragment around it is looked at again.
document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.target.closest?.("form[data-sent]");
  if (!form) return;
  if (!event.detail.successful || !form.closest("[data-live]")) ready(form);
  if (dialog.contains(form)) {
    dialog.close();
    refreshAll();
  } else {
    refreshAround(form);
  }
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig.verb !== "get") toast(toasts.dataset.offline, "error");
});
document.addEventListener("htmx:responseError", (event) => {
  // 409 comes with its own words, see portal:messages.
  if (event.detail.requestConfig.verb !== "get" && event.detail.xhr.status !== 409) toast(toasts.dataset.refused, "error");
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

// -- secrets --------------------------------------------------------------------------------
// What is in data-hide-after="30" is taken off the page after so many seconds.

function hideLater(element) {
  let left = Number(element.dataset.hideAfter);
  delete element.dataset.hideAfter;
  const timer = setInterval(() => {
    left -= 1;
    const seconds = element.querySelector("[data-seconds]");
    if (seconds) seconds.textContent = left;
    if (left > 0) return;
    clearInterval(timer);
    if (element.shown) {
      const place = element.parentElement;
      element.replaceWith(...element.shown);
      window.htmx.process(place);
    } else {
      element.textContent = element.dataset.hiddenWord;
    }
  }, 1000);
}

// Keep what stood there before, to bring it back.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target?.id === "credentials") event.detail.target.kept = [...event.detail.target.childNodes];
});
document.addEventListener("htmx:afterSwap", (event) => {
  for (const element of event.detail.target.querySelectorAll?.("[data-hide-after]") ?? []) {
    element.shown = event.detail.target.kept;
    element.shown?.forEach((node) => node.matches?.("form") && ready(node));
    hideLater(element);
  }
});

// -- dialogs --------------------------------------------------------------------------------
// <a href="…" data-dialog>: what the link leads to is shown in the dialog of base.html. Without
// scripts the link leads to the same as a page.

async function openDialog(link) {
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(link.href, { headers: { "HX-Request": "true" } });
    if (!answer.ok || answer.headers.has("HX-Redirect") || answer.redirected) throw new Error(answer.statusText);
    dialog.innerHTML = await answer.text();
    dialog.returnFocus = link.id || link.closest("details.menu")?.id;
    link.closest("details.menu")?.removeAttribute("open");
    showTimes(dialog);
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

// On a phone these lists are wider than the screen: show where one is.
for (const list of document.querySelectorAll(".nav-main, .account-nav")) {
  const here = list.querySelector("[aria-current]");
  if (here) list.scrollLeft = here.offsetLeft - list.offsetLeft - (list.clientWidth - here.clientWidth) / 2;
}
for (const button of document.querySelectorAll("[data-theme-switch]")) button.hidden = false;
startTimes();
startLive();

// What both consoles' pages share: the notice over the stage, the bar's buttons, full screen, the
// way out of the captured keyboard, and the machine's state.

import { Connection } from "./connection.js";

export const page = JSON.parse(document.getElementById("console-page").textContent);
export const stage = document.getElementById("stage");
const byId = (id) => document.getElementById(id);

// Say it to those who cannot see it.
export function announce(text) {
  byId("status").textContent = text;
}

// A value kept in this browser; storage may be forbidden.
export function remembered(name, fallback) {
  try { return localStorage.getItem(`console.${name}`) ?? fallback; } catch { return fallback; }
}
export function remember(name, value) {
  try { localStorage.setItem(`console.${name}`, value); } catch { /* for this page only */ }
}

export const fill = (words, value) => words.replace("%s", value);

// The connection of this page, and everything on the page that follows it. `open(socket)` begins
// to speak; `focus()` puts the keyboard where it belongs once the console is open.
export function connect({ open, focus }) {
  const connection = new Connection({
    ticketUrl: page.ticketUrl,
    socketPath: page.socketPath,
    form: { kind: page.kind, ...(page.watch ? { view_only: "1" } : {}) },
    csrf: document.querySelector("[name=csrfmiddlewaretoken]").value,
    endings: page.endings,
    open,
  });
  connection.addEventListener("state", ({ detail }) => {
    const before = stage.dataset.connection;
    stage.dataset.connection = detail.name;
    notice(detail, before);
    if (detail.name === "open" && (document.activeElement === document.body || stage.contains(document.activeElement))) focus();
  });
  byId("again").addEventListener("click", () => connection.connect());
  byId("end").addEventListener("click", () => connection.end("left"));
  document.addEventListener("htmx:afterSwap", () => byId("console-state")?.dataset.on === "1" && connection.machineIsOn());
  window.addEventListener("pageshow", (event) => event.persisted && connection.connect());
  connection.connect();
  return connection;
}

// The third-party code is made by bin/assets; without it there is no console.
export function notBuilt() {
  notice({ name: "ended", title: page.words.assets }, "");
  byId("again").hidden = true;
}

let slow = 0;

function notice({ name, text = "", seconds = 0, title = titleOf(name, seconds) }, before) {
  const { words } = page;
  clearTimeout(slow);
  // What takes no time is not worth a word, and a countdown that becomes an attempt stays in its place.
  if (name === "connecting" && before !== "waiting") slow = setTimeout(() => { byId("notice").hidden = false; }, 400);
  byId("notice").hidden = name === "open" || (name === "connecting" && before !== "waiting");
  byId("notice-title").textContent = title;
  byId("notice-text").textContent = name === "off" ? words.off_then : text;
  byId("again").hidden = name !== "waiting" && name !== "ended";
  byId("again").querySelector("[data-word=now]").hidden = name !== "waiting";
  byId("again").querySelector("[data-word=open]").hidden = name !== "ended";
  byId("start").hidden = name !== "off";
  if (name === "open") announce(before === "connecting" ? words.connected : words.again);
  else if (name !== "waiting" || before !== "waiting") announce(`${title} ${text}`);
}

function titleOf(name, seconds) {
  const { connecting, reconnecting, off, ended } = page.words;
  return { connecting, waiting: fill(reconnecting, seconds), off, ended }[name] ?? "";
}

// Ctrl+Alt+Shift leaves the console for the bar: the keyboard is never a trap.
export function wayOut(leave) {
  window.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey && event.altKey && event.shiftKey && ["Control", "Alt", "Shift"].includes(event.key))) return;
    if (!stage.contains(document.activeElement)) return;
    event.preventDefault();
    event.stopPropagation();
    leave();
    byId("bar").querySelector(".console-tools summary, .console-tools button").focus();
  }, { capture: true });
}

export function fullScreen() {
  const button = byId("fullscreen");
  button.addEventListener("click", async () => {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.documentElement.requestFullscreen().catch(() => { button.disabled = true; });
  });
  document.addEventListener("fullscreenchange", () => {
    button.setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
    // Where the browser can, Esc and Alt+Tab go to the machine too; holding Esc leaves.
    if (document.fullscreenElement && page.kind === "screen") navigator.keyboard?.lock?.().catch(() => {});
  });
}

// User and password, fetched when asked for, over the stage.
const signIn = byId("sign-in");
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  if (detail.target.id !== "sign-in-body") return;
  byId("menu-more").removeAttribute("open");
  signIn.showModal();
});
signIn.addEventListener("close", () => byId("sign-in-body").replaceChildren());

// A click on the stage closes the bar's menus: the stage keeps its clicks to itself.
stage.addEventListener("pointerdown", () => {
  for (const menu of document.querySelectorAll(".console-bar details[open]")) menu.removeAttribute("open");
}, { capture: true });

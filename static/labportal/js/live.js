// Live pages. An element with data-live="topics~signature" (tag {% live %}) is fetched anew when one
// of its topics changes: at most once a second, never under an open dialog or a field being filled in.
// Without a WebSocket the same elements are fetched every few seconds.
import { showTime } from "./times.js";

const POLL = 5000;
const CALM = 1000;

const due = new Map(); // element id -> earliest time of the next fetch
const waiting = new Set(); // ids whose topics changed while they were calm
let socket = null;
let sent = new Set();
let pause = 500;

const fragments = () => document.querySelectorAll("[data-live]");
const topicsOf = (element) => element.dataset.live.split("~")[0].split(" ");

function inUse(element) {
  const active = document.activeElement;
  return element.querySelector("dialog[open], form[data-sent]") !== null
    || (element.contains(active) && active.matches("input:not([type=hidden], [type=checkbox]), textarea, select"));
}

function refresh(element) {
  if (!window.htmx || document.hidden) { waiting.add(element.id); return; }
  const now = performance.now();
  if (inUse(element) || now < (due.get(element.id) ?? 0)) { waiting.add(element.id); return; }
  waiting.delete(element.id);
  due.set(element.id, now + CALM);
  window.htmx.trigger(element, "live");
}

// Look now, whatever is going on: the answer to a click.
export function refreshAround(element) {
  const fragment = element.closest("[data-live]");
  if (!fragment || !window.htmx) return;
  due.set(fragment.id, performance.now() + CALM);
  window.htmx.trigger(fragment, "live");
}

export function refreshAll() {
  fragments().forEach(refresh);
}

function flush() {
  for (const id of [...waiting]) {
    const element = document.getElementById(id);
    if (element?.dataset.live) refresh(element);
    else waiting.delete(id);
  }
}

function changed(topics) {
  for (const element of fragments()) {
    if (topicsOf(element).some((topic) => topics.includes(topic))) refresh(element);
  }
}

// -- the socket -----------------------------------------------------------------------------

function subscribe() {
  const fresh = [...fragments()].filter((element) => !sent.has(element.dataset.live));
  if (!fresh.length || socket?.readyState !== WebSocket.OPEN) return;
  const tokens = [...new Set(fresh.map((element) => element.dataset.live))];
  tokens.forEach((token) => sent.add(token));
  const since = Math.min(...fresh.map((element) => Number(element.dataset.liveSince)));
  socket.send(JSON.stringify({ listen: tokens, since }));
}

function connect() {
  const url = document.body.dataset.liveUrl;
  if (!url || !fragments().length) return;
  sent = new Set();
  socket = new WebSocket(new URL(url, location.href.replace(/^http/, "ws")));
  socket.addEventListener("open", () => {
    subscribe();
    // What happened while nobody listened is seen by looking once.
    if (pause > 500) fragments().forEach(refresh);
  });
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    pause = 500; // one that opens and closes at once is no connection yet
    if (message.topics) changed(message.topics);
    if (message.seen) seen(message.seen);
    socket.send('{"ok":1}'); // the next message comes only then: a slow page is told less often
  });
  socket.addEventListener("close", ({ code }) => {
    socket = null;
    if (code === 4401) { location.reload(); return; } // signed out elsewhere
    setTimeout(connect, pause * (0.5 + Math.random()));
    pause = Math.min(pause * 2, 30000);
  });
}

setInterval(() => {
  if (socket?.readyState !== WebSocket.OPEN && !document.hidden) fragments().forEach(refresh);
}, POLL);

// -- how old what is shown is -----------------------------------------------------------------

// By topic: when the cluster last answered, and when this page heard of it. How long ago that is goes
// by the page's own clock: the computer's may be wrong by minutes.
const heard = new Map();

function hear(topic, moment) {
  if (heard.get(topic)?.moment !== moment) heard.set(topic, { moment, at: performance.now() });
}

function showAge(line, stale) {
  line.classList.toggle("stale", stale);
  line.querySelector("[data-fresh]").hidden = stale;
  line.querySelector("[data-old]").hidden = !stale;
}

function seen(moments) {
  for (const [topic, moment] of Object.entries(moments)) {
    hear(topic, moment);
    for (const line of document.querySelectorAll(`[data-seen="${topic}"]`)) {
      const times = [...line.querySelectorAll("time")];
      if (times.some((time) => time.dateTime !== moment)) showAge(line, false);
      for (const time of times) { time.dateTime = moment; showTime(time); }
    }
  }
}

function age() {
  for (const line of document.querySelectorAll("[data-seen]")) {
    const time = line.querySelector("time");
    // A cluster that is called silent stays so until it is heard of again.
    if (!time || line.classList.contains("stale")) continue;
    hear(line.dataset.seen, time.dateTime);
    if (performance.now() - heard.get(line.dataset.seen).at > 1000 * Number(line.dataset.staleAfter)) showAge(line, true);
  }
}

// -- a swap disturbs nobody -------------------------------------------------------------------

let open = [];
let said = new Map();
let focused = null;

const announcers = (element) => [...element.querySelectorAll("[data-announce]"), ...(element.matches?.("[data-announce]") ? [element] : [])];

function beforeSwap(event) {
  const element = event.detail.target;
  if (!element?.querySelectorAll) return;
  open = [...element.querySelectorAll("details[open][id]")].map((details) => details.id);
  said = new Map(announcers(element).map((each) => [each.id, each.dataset.announce]));
  // htmx finds focus again by id; a menu's summary has none of its own.
  focused = document.activeElement?.closest?.("details[id]") && element.contains(document.activeElement) && document.activeElement.matches("summary")
    ? document.activeElement.closest("details").id : null;
}

function afterSwap() {
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.querySelector("summary")?.focus();
  const news = announcers(document).filter((each) => said.has(each.id) && said.get(each.id) !== each.dataset.announce);
  if (news.length) document.getElementById("announcements").textContent = news.map((each) => each.dataset.announce).join(". ");
  open = [];
  said = new Map();
  subscribe();
}

// What a fragment shows was deleted, or is not this person's any more: the page says so itself.
function gone(event) {
  const { live, stays } = event.target.dataset ?? {};
  // A page with data-stays says by itself what became of it: a console keeps its last picture.
  if (live && stays === undefined && [403, 404].includes(event.detail.xhr.status)) location.reload();
}

export function startLive() {
  document.addEventListener("htmx:responseError", gone);
  document.addEventListener("htmx:beforeSwap", beforeSwap);
  document.addEventListener("htmx:afterSwap", afterSwap);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) fragments().forEach(refresh); });
  setInterval(() => { flush(); age(); }, 250);
  connect();
}

// The screen of a machine in the browser (noVNC).

import { Bar } from "./bar.js";
import { Keys, TouchKeyboard } from "./keys.js";
import { connect, fill, fullScreen, notBuilt, page, remember, remembered, wayOut } from "./page.js";
import { Paste } from "./paste.js";

const PASTE_LIMIT = 4000; // characters: more than a minute of typing
const STROKES_A_SECOND = 45;
const HINT_MS = 4000;

const byId = (id) => document.getElementById(id);
const picture = byId("screen");
const last = byId("last");
const bar = new Bar(byId("bar"), byId("handle"));
const keys = new Keys();
let rfb = null;
let translating = false;

// -- the picture --------------------------------------------------------------------------------

function open(RFB, socket) {
  const screen = new RFB(picture, socket, { shared: true });
  rfb = screen;
  screen.viewOnly = page.watch;
  screen.showDotCursor = true;
  screen.background = "transparent";
  size(remembered("size", "fit"));
  let canvas = null;
  screen.addEventListener("connect", () => {
    keys.rfb = screen;
    last.hidden = true;
    canvas = picture.querySelector("canvas");
    name(canvas);
    bar.pin(false);
    connection.ready();
  });
  screen.addEventListener("disconnect", () => {
    if (canvas?.width && canvas.height) keep(screen); // else it never had a picture
    if (rfb === screen) rfb = keys.rfb = null;
    bar.pin(true);
  });
}

function name(canvas) {
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", picture.dataset.label);
  canvas.setAttribute("aria-describedby", "hint");
}

// The last picture stays on the stage while there is no connection.
function keep(screen) {
  const pixels = screen.getImageData();
  last.width = pixels.width;
  last.height = pixels.height;
  last.getContext("2d").putImageData(pixels, 0, 0);
  last.hidden = false;
}

function size(chosen) {
  if (rfb) {
    rfb.scaleViewport = chosen === "fit";
    rfb.clipViewport = chosen !== "fit" && matchMedia("(pointer: coarse)").matches;
    rfb.dragViewport = rfb.clipViewport;
  }
  byId("size-fit").setAttribute("aria-pressed", String(chosen === "fit"));
  byId("size-full-size").setAttribute("aria-pressed", String(chosen !== "fit"));
  remember("size", chosen);
}

// -- the keyboard -------------------------------------------------------------------------------

let hintTimer = 0;

picture.addEventListener("focusin", () => {
  if (page.watch) return;
  byId("hint").hidden = false;
  clearTimeout(hintTimer);
  hintTimer = setTimeout(() => { byId("hint").hidden = true; }, HINT_MS);
});
picture.addEventListener("focusout", () => { byId("hint").hidden = true; });

// Nothing of the person's own keyboard reaches noVNC while it is translated.
for (const type of ["keydown", "keyup"]) {
  picture.addEventListener(type, (event) => {
    if (!translating) return;
    event.stopPropagation();
    if (type === "keydown" && keys.translate(event)) event.preventDefault();
  }, { capture: true });
}

function keyboard() {
  const layout = byId("layout");
  const memory = `layout.${page.machine}`;
  const choose = (code) => {
    keys.layout = layout.value = code;
    byId("layout-word").textContent = code;
    remember(memory, code);
  };
  const known = [...layout.options].map((option) => option.value);
  const kept = remembered(memory, page.layout);
  choose(known.includes(kept) ? kept : page.layout);
  layout.addEventListener("change", () => choose(layout.value));

  const translate = byId("translate");
  translating = translate.checked = remembered("translate", "") === "1";
  translate.addEventListener("change", () => {
    translating = translate.checked;
    remember("translate", translating ? "1" : "");
    keys.release();
  });

  for (const button of document.querySelectorAll("[data-chord]")) {
    button.addEventListener("click", () => {
      const codes = button.dataset.chord.split(" ");
      if (button.dataset.key) keys.character(button.dataset.key, codes.slice(0, -1));
      else keys.chord(...codes);
      back(button);
    });
  }

  const touch = byId("touch");
  new TouchKeyboard(touch, keys);
  byId("touch-open").addEventListener("click", () => touch.focus());

  const paste = new Paste({
    limit: PASTE_LIMIT,
    check: (text) => {
      byId("paste-estimate").textContent = text ? fill(page.words.seconds, Math.ceil(text.length / STROKES_A_SECOND)) : "";
      const missing = keys.missing(text);
      return missing.length ? fill(page.words.missing, missing.join(" ")) : "";
    },
    send: async (text, options) => {
      const missing = await keys.text(text, options);
      return missing.length ? fill(page.words.missing, missing.join(" ")) : "";
    },
    done: () => rfb?.focus(),
  });
  byId("paste-open").addEventListener("click", () => paste.open());

  wayOut(() => {
    keys.release();
    rfb?.blur();
    bar.show();
  });
}

// After a choice in a menu: it closes, and the keyboard belongs to the machine again.
function back(button) {
  button.closest("details")?.removeAttribute("open");
  rfb?.focus();
}

// -- the page -----------------------------------------------------------------------------------

if (!page.watch) keyboard();
fullScreen();
byId("size-fit").addEventListener("click", (event) => { size("fit"); back(event.currentTarget); });
byId("size-full-size").addEventListener("click", (event) => { size("1:1"); back(event.currentTarget); });

const vendor = await import("../../../vendor/novnc.js").catch(notBuilt);
const connection = vendor && connect({ open: (socket) => open(vendor.default, socket), focus: () => rfb?.focus() });

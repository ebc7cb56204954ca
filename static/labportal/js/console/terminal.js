// A shell on a machine in the browser (xterm.js). Binary messages are the terminal's bytes, text
// messages are control: {"type": "resize"}, {"type": "ack"} to the machine, {"type": "exit"} from it.

import { announce, connect, fullScreen, notBuilt, page, remember, remembered, wayOut } from "./page.js";
import { Paste } from "./paste.js";
import { allowStyles } from "./xterm-styles.js";

const PASTE_LIMIT = 200000;
const PASTE_PIECE = 4096;
const ACK_BYTES = 64 * 1024; // what was drawn is told in pieces of this size
const SIZES = { smallest: 9, phone: 13, usual: 15, largest: 32 };
const SENT = { escape: "\x1b", tab: "\t", interrupt: "\x03", end: "\x04", suspend: "\x1a", up: "\x1b[A", down: "\x1b[B", right: "\x1b[C", left: "\x1b[D" };
// A program that was cut off may have left the other screen, the mouse or the paste brackets switched on.
const TIDY = "\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[!p\r\n";

const byId = (id) => document.getElementById(id);
const encoder = new TextEncoder();

function colours() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    background: value("--terminal-background"),
    foreground: value("--terminal-foreground"),
    cursor: value("--accent"),
    cursorAccent: value("--terminal-background"),
    selectionBackground: value("--terminal-selection"),
  };
}

function start({ Terminal, FitAddon, WebLinksAddon }) {
  allowStyles(byId("xterm-styles").nonce);
  const usual = innerWidth < 600 ? SIZES.phone : SIZES.usual;
  const terminal = new Terminal({
    fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
    fontSize: Number(remembered("text", usual)) || usual,
    theme: colours(),
    minimumContrastRatio: 4.5,
    cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    scrollback: 5000,
    screenReaderMode: remembered("aloud", "") === "1",
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.loadAddon(new WebLinksAddon((_event, url) => window.open(url, "_blank", "noopener,noreferrer")));
  Terminal.strings.promptLabel = byId("terminal").getAttribute("aria-label");
  Terminal.strings.tooMuchOutput = page.words.too_much;
  terminal.open(byId("terminal"));
  fit.fit();
  new ResizeObserver(() => fit.fit()).observe(byId("terminal"));
  new MutationObserver(() => { terminal.options.theme = colours(); }).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });

  // -- the wire -------------------------------------------------------------------------------
  let socket = null;
  const control = (message) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
  const send = (data) => socket?.readyState === WebSocket.OPEN && socket.send(data);
  const tellSize = ({ cols, rows }) => control({ type: "resize", cols, rows });

  function open(fresh) {
    let drawn = 0;
    let began = false;
    socket = fresh;
    fresh.addEventListener("open", () => {
      control({ type: "ack", bytes: 0 }); // from now on the portal holds back what was not drawn
      tellSize(terminal);
    });
    fresh.addEventListener("message", ({ data }) => {
      if (typeof data === "string") return; // how the shell exited: the close frame says it in words
      if (!began) {
        began = true;
        if (connection.again) terminal.write(TIDY);
        connection.again = true;
        connection.ready();
      }
      terminal.write(new Uint8Array(data), () => {
        drawn += data.byteLength;
        if (drawn < ACK_BYTES || fresh !== socket) return;
        control({ type: "ack", bytes: drawn });
        drawn = 0;
      });
    });
  }

  terminal.onData((text) => send(encoder.encode(text)));
  terminal.onBinary((text) => send(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  terminal.onResize(tellSize);

  // -- copy and paste ---------------------------------------------------------------------------
  async function copy() {
    const text = terminal.getSelection();
    if (!text) { announce(page.words.nothing); return; }
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      terminal.focus(); // without https: the old way, which xterm answers with its selection
      document.execCommand("copy");
    }
    announce(page.words.copied);
  }

  // As xterm pastes, brackets and all, but in pieces: a long text can be stopped, and waits for a slow line.
  const paste = new Paste({
    limit: PASTE_LIMIT,
    send: async (text, { signal, progress }) => {
      const bracketed = terminal.modes.bracketedPasteMode;
      const body = encoder.encode(text.replace(/\r?\n/g, "\r").replaceAll("\x1b", ""));
      if (bracketed) send(encoder.encode("\x1b[200~"));
      for (let at = 0; at < body.length && !signal.aborted; at += PASTE_PIECE) {
        while (socket?.bufferedAmount > 16 * PASTE_PIECE && !signal.aborted) await new Promise((done) => setTimeout(done, 20));
        send(body.subarray(at, at + PASTE_PIECE));
        progress(Math.min(at + PASTE_PIECE, body.length), body.length);
      }
      if (bracketed) send(encoder.encode("\x1b[201~"));
      return "";
    },
    done: () => terminal.focus(),
  });

  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey || event.altKey) return true;
    if (event.code === "KeyC") {
      event.preventDefault();
      copy();
      return false;
    }
    return event.code !== "KeyV"; // the browser pastes, which asks nobody for permission
  });
  byId("copy").addEventListener("click", () => copy().then(() => terminal.focus()));
  byId("paste-open").addEventListener("click", () => paste.open());

  // -- the bar ----------------------------------------------------------------------------------
  const back = (button) => {
    button.closest("details").removeAttribute("open");
    terminal.focus();
  };
  for (const button of document.querySelectorAll("[data-send]")) {
    button.addEventListener("click", () => {
      terminal.input(SENT[button.dataset.send]);
      back(button);
    });
  }
  const text = (step) => {
    terminal.options.fontSize = Math.min(SIZES.largest, Math.max(SIZES.smallest, terminal.options.fontSize + step));
    remember("text", terminal.options.fontSize);
    fit.fit();
  };
  byId("larger").addEventListener("click", () => text(1));
  byId("smaller").addEventListener("click", () => text(-1));
  const aloud = byId("aloud");
  aloud.setAttribute("aria-pressed", String(terminal.options.screenReaderMode));
  aloud.addEventListener("click", () => {
    terminal.options.screenReaderMode = !terminal.options.screenReaderMode;
    aloud.setAttribute("aria-pressed", String(terminal.options.screenReaderMode));
    remember("aloud", terminal.options.screenReaderMode ? "1" : "");
    back(aloud);
  });
  fullScreen();
  wayOut(() => terminal.blur());

  const connection = connect({ open, focus: () => terminal.focus() });
}

const vendor = await import("../../../vendor/xterm.js").catch(notBuilt);
if (vendor) start(vendor);

// Key presses into a screen: whole texts, special keys, and the person's own typing translated.

import { strokes } from "./layouts.js";

// Keysyms of keys that make no character (X11's keysymdef.h). The rest follow from the character.
const KEYSYMS = {
  Backspace: 0xff08, Tab: 0xff09, Enter: 0xff0d, Escape: 0xff1b, Delete: 0xffff, Insert: 0xff63,
  Home: 0xff50, ArrowLeft: 0xff51, ArrowUp: 0xff52, ArrowRight: 0xff53, ArrowDown: 0xff54, PageUp: 0xff55, PageDown: 0xff56, End: 0xff57,
  F1: 0xffbe, F2: 0xffbf, F3: 0xffc0, F4: 0xffc1, F5: 0xffc2, F6: 0xffc3, F7: 0xffc4, F8: 0xffc5, F9: 0xffc6, F10: 0xffc7, F11: 0xffc8, F12: 0xffc9,
  ShiftLeft: 0xffe1, ShiftRight: 0xffe2, ControlLeft: 0xffe3, ControlRight: 0xffe4, AltLeft: 0xffe9, AltRight: 0xfe03,
  MetaLeft: 0xffeb, MetaRight: 0xffec, ContextMenu: 0xff67, PrintScreen: 0xff61, Pause: 0xff13,
};
const DEAD_KEYSYMS = { "\u0300": 0xfe50, "\u0301": 0xfe51, "\u0302": 0xfe52, "\u0303": 0xfe53, "\u0308": 0xfe57, "\u030a": 0xfe58, "\u030c": 0xfe5a, "\u0327": 0xfe5b };
const MODIFIERS = ["ShiftLeft", "ShiftRight", "ControlLeft", "ControlRight", "AltLeft", "AltRight", "MetaLeft", "MetaRight"];

// An emulated keyboard holds 16 events and drops what comes while it is full.
const STROKE_MS = 20;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function keysymOf({ char, code }) {
  if (KEYSYMS[code]) return KEYSYMS[code];
  if (char === "€") return 0x20ac;
  const point = char.codePointAt(0);
  return DEAD_KEYSYMS[char] ?? (point < 0x100 ? point : 0x01000000 | point);
}

// The keyboard of one screen. `rfb` is replaced when the screen is connected again; `layout` is
// the one the machine is set to.
export class Keys {
  rfb = null;
  layout = "us";

  // A key with others held: chord("ControlLeft", "AltLeft", "Delete").
  chord(...codes) {
    for (const code of codes) this.#send(KEYSYMS[code], code, true);
    for (const code of codes.reverse()) this.#send(KEYSYMS[code], code, false);
  }

  // Whatever the machine believes to be held, it is not.
  release() {
    for (const code of MODIFIERS) this.#send(KEYSYMS[code], code, false);
  }

  // One character with the keys of the machine's layout, `held` around it. False: it has none.
  character(char, held = []) {
    const presses = strokes(this.layout, char);
    if (!presses) return false;
    for (const press of presses) {
      const around = [...held, ...(press.altgr ? ["AltRight"] : []), ...(press.shift ? ["ShiftLeft"] : [])];
      for (const code of around) this.#send(KEYSYMS[code], code, true);
      this.#send(keysymOf(press), press.code, true);
      this.#send(keysymOf(press), press.code, false);
      for (const code of around.reverse()) this.#send(KEYSYMS[code], code, false);
    }
    return true;
  }

  // A text, at the pace of a keyboard, until done or `signal` says stop. Answers the characters
  // that the layout has no key for: they were left out.
  async text(text, { signal, progress }) {
    const chars = [...text.replaceAll("\r\n", "\n")];
    const missing = new Set();
    for (const [index, char] of chars.entries()) {
      if (signal.aborted) break;
      if (!this.character(char)) missing.add(char);
      progress(index + 1, chars.length);
      await pause(STROKE_MS);
    }
    return [...missing];
  }

  // The characters of `text` that have no key, without typing anything.
  missing(text) {
    return [...new Set(text)].filter((char) => char !== "\r" && !strokes(this.layout, char));
  }

  // Type what a keyboard event means instead of passing its key on by position. False: nothing
  // is meant by it alone. A character without a key on the machine is swallowed.
  translate(event) {
    const composed = event.getModifierState("AltGraph") || (event.altKey && [...event.key].length === 1 && event.key > "\u007f");
    if (event.key === "Dead" || event.key === "Process" || event.isComposing) return false;
    const held = [];
    if (!composed) {
      if (event.ctrlKey) held.push("ControlLeft");
      if (event.altKey) held.push("AltLeft");
      if (event.metaKey) held.push("MetaLeft");
    }
    if ([...event.key].length === 1) {
      if (held.length && event.shiftKey) held.push("ShiftLeft");
      this.character(held.length ? event.key.toLowerCase() : event.key, held);
      return true;
    }
    if (MODIFIERS.includes(event.code) || !KEYSYMS[event.code]) return false;
    this.chord(...held, ...(event.shiftKey ? ["ShiftLeft"] : []), event.code);
    return true;
  }

  #send(keysym, code, down) {
    this.rfb?.sendKey(keysym, code, down);
  }
}

// A field that brings up the keyboard of a phone; what is written into it goes to the machine.
// Such keyboards tell no keys, so the change of the field's text is looked at.
export class TouchKeyboard {
  static #PADDING = "_".repeat(40); // something to delete

  constructor(field, keys) {
    this.field = field;
    this.keys = keys;
    this.#reset();
    field.addEventListener("input", (event) => this.#changed(event));
    field.addEventListener("keydown", (event) => {
      if ([...event.key].length > 1 && event.key !== "Backspace" && keys.translate(event)) event.preventDefault();
    });
    field.addEventListener("compositionend", () => this.#reset());
  }

  #reset() {
    this.field.value = this.last = TouchKeyboard.#PADDING;
  }

  #changed(event) {
    const now = this.field.value;
    let same = 0;
    while (same < now.length && same < this.last.length && now[same] === this.last[same]) same++;
    for (let gone = this.last.length - same; gone > 0; gone--) this.keys.chord("Backspace");
    for (const char of now.slice(same)) this.keys.character(char);
    this.last = now;
    if (!event.isComposing) this.#reset();
  }
}

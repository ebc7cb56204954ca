// The dialog for text that goes to the machine: bounded, with progress, and it can be stopped.

import { announce, fill, page } from "./page.js";

const byId = (id) => document.getElementById(id);

// `limit` characters at most; `check(text)` answers a problem to name, or ""; `send(text, { signal,
// progress })` sends and answers what to say about it, or "".
export class Paste {
  #stop = null;

  constructor({ limit, check = () => "", send, done }) {
    Object.assign(this, { limit, check, send, done });
    this.dialog = byId("paste");
    this.field = byId("paste-text");
    this.field.maxLength = limit;
    this.field.addEventListener("input", () => this.#look());
    this.dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#run();
    });
    byId("paste-cancel").addEventListener("click", () => (this.#stop ? this.#stop.abort() : this.dialog.close()));
    this.dialog.addEventListener("cancel", () => this.#stop?.abort());
    this.dialog.addEventListener("close", () => {
      this.field.value = "";
      this.done();
    });
  }

  async open() {
    let text = "";
    try { text = await navigator.clipboard.readText(); } catch { /* not allowed, or no https */ }
    this.field.value = text.slice(0, this.limit);
    this.dialog.showModal();
    this.field.focus();
    this.#look(text.length > this.limit ? fill(page.words.too_long, this.limit) : "");
  }

  #look(problem = "") {
    byId("paste-problem").textContent = problem || this.check(this.field.value);
  }

  async #run() {
    const text = this.field.value;
    if (this.#stop || !text) return;
    this.#stop = new AbortController();
    const bar = byId("paste-progress");
    bar.hidden = false;
    byId("paste-send").disabled = true;
    const words = await this.send(text, { signal: this.#stop.signal, progress: (now, all) => { bar.firstElementChild.value = now / all; } });
    announce(this.#stop.signal.aborted ? page.words.stopped : words || page.words.typed);
    this.#stop = null;
    bar.hidden = true;
    byId("paste-send").disabled = false;
    this.dialog.close();
  }
}

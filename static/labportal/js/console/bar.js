// The bar above a screen: it steps aside while nobody needs it and comes back when the pointer
// touches the top edge, when its handle is used, or when something in it has the focus.

const AWAY_MS = 2500;

export class Bar {
  #timer = 0;
  #pinned = true;

  constructor(bar, handle) {
    this.bar = bar;
    this.handle = handle;
    for (const name of ["pointerenter", "pointermove", "focusin"]) bar.addEventListener(name, () => this.show());
    for (const name of ["pointerleave", "focusout"]) bar.addEventListener(name, () => this.#soon());
    handle.addEventListener("click", () => {
      this.show();
      bar.querySelector("a, button, summary").focus();
    });
    window.addEventListener("pointermove", (event) => event.clientY < 4 && this.show(), { capture: true, passive: true });
  }

  // Stays while `pinned`: as long as there is no picture it hides nothing.
  pin(pinned) {
    this.#pinned = pinned;
    this.show();
  }

  show() {
    this.bar.classList.remove("away");
    this.handle.hidden = true;
    this.#soon();
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#pinned || this.bar.matches(":hover, :focus-within") || this.bar.querySelector("details[open]")) return;
      this.bar.classList.add("away");
      this.handle.hidden = false;
    }, AWAY_MS);
  }
}

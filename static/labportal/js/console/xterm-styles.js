// Lets xterm.js live under a Content-Security-Policy without 'unsafe-inline'. It makes <style>
// elements, which the nonce of the page allows, and writes the colours of 24-bit text as style
// attributes, which nothing allows: the same text set through the CSSOM is not inline style.

export function allowStyles(nonce) {
  const createElement = document.createElement.bind(document);
  document.createElement = (name, options) => {
    const element = createElement(name, options);
    if (element instanceof HTMLStyleElement) element.nonce = nonce;
    return element;
  };
  HTMLSpanElement.prototype.setAttribute = function setAttribute(name, value) {
    if (name === "style") this.style.cssText = value;
    else Element.prototype.setAttribute.call(this, name, value);
  };
}

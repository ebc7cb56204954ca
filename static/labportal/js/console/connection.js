// One console's connection: a new ticket for each attempt, a WebSocket that carries it as a
// subprotocol, and what to do when it ends.
//
// Dispatches "state" with { name, … }:
//   connecting
//   open
//   waiting  { seconds, text }   tries again by itself
//   off      { text }            the machine is off; begins again when told that it is on
//   ended    { text }            does not try again by itself

const SUBPROTOCOL = "labportal.console";
const WAITS = [1, 2, 4, 8, 15, 30]; // seconds before the first, second, … new attempt
const STEADY_MS = 10000; // open for so long: the next loss starts with the first wait again
const TICKET_MS = 15000; // on a broken line a request may go on for minutes
const OPEN_MS = 40000; // a hypervisor may take its time; nothing at all for so long is a loss

export class Connection extends EventTarget {
  #attempt = 0; // also tells answers to an earlier attempt from those to this one
  #failures = 0;
  #openedAt = 0;
  #timers = new Set();
  state = "new";

  // `endings` is { code: { text, again } }; `open(socket)` begins to speak on a new WebSocket and
  // calls `ready()` here once the machine has answered.
  constructor({ ticketUrl, socketPath, form, csrf, endings, open }) {
    super();
    Object.assign(this, { ticketUrl, socketPath, form, csrf, endings, open });
    window.addEventListener("online", () => this.state === "waiting" && this.connect());
    window.addEventListener("pagehide", () => this.#stop());
  }

  async connect() {
    this.#stop();
    const attempt = this.#attempt;
    this.#tell("connecting");
    const { token, code, text } = await this.#ticket();
    if (attempt !== this.#attempt) return;
    if (!token) {
      this.#over(code, text);
      return;
    }
    const socket = new WebSocket(this.#url(), [SUBPROTOCOL, `ticket.${token}`]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.#later(OPEN_MS, () => this.state === "connecting" && socket.close());
    socket.addEventListener("close", (event) => {
      if (attempt === this.#attempt) this.#over(event.reason);
    });
    this.open(socket);
  }

  // The machine has answered on the socket.
  ready() {
    this.#openedAt = Date.now();
    this.#tell("open");
  }

  // The person ends it, or the page has learned why it must end.
  end(code) {
    this.#stop();
    this.#over(code);
  }

  // The machine is on (again): whoever waited for that connects.
  machineIsOn() {
    if (this.state === "off") this.connect();
  }

  async #ticket() {
    const body = new FormData();
    for (const [name, value] of Object.entries(this.form)) body.append(name, value);
    try {
      const headers = { "X-CSRFToken": this.csrf, Accept: "application/json" };
      const response = await fetch(this.ticketUrl, { method: "POST", body, headers, signal: AbortSignal.timeout(TICKET_MS) });
      if (response.headers.get("Content-Type")?.startsWith("application/json")) return await response.json();
      return { code: response.status === 404 || response.status === 403 ? "revoked" : "" };
    } catch {
      return { code: "" }; // the portal does not answer
    }
  }

  #url() {
    const url = new URL(this.socketPath, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
  }

  #over(code, words) {
    const ending = this.endings[code] ?? this.endings.no_answer;
    const text = words ?? ending.text;
    if (this.#openedAt && Date.now() - this.#openedAt > STEADY_MS) this.#failures = 0;
    this.#stop();
    if (code === "machine_off") this.#tell("off", { text });
    else if (!ending.again) this.#tell("ended", { text });
    else this.#countDown(WAITS[Math.min(this.#failures++, WAITS.length - 1)], text);
  }

  #countDown(seconds, text) {
    this.#tell("waiting", { seconds, text });
    // Those who lost the portal together do not come back in the same moment.
    this.#later(seconds > 1 ? 1000 : 500 + 1000 * Math.random(), () => (seconds > 1 ? this.#countDown(seconds - 1, text) : this.connect()));
  }

  #later(ms, act) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      act();
    }, ms);
    this.#timers.add(timer);
  }

  #stop() {
    this.#attempt++;
    this.#openedAt = 0;
    this.#timers.forEach(clearTimeout);
    this.#timers.clear();
    this.socket?.close();
    this.socket = null;
  }

  #tell(name, detail = {}) {
    this.state = name;
    this.dispatchEvent(new CustomEvent("state", { detail: { name, ...detail } }));
  }
}

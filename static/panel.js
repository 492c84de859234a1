/** One wire's half of the console: its cue light, its figures and the last rows that came. Event data only ever becomes text. */

const MOST_ROWS = 200;
/** Characters of a frame that are shown; the rest is counted. */
const MOST_SHOWN = 2_000;
/** Deliveries that the median looks back on. */
const MOST_TIMES = 100;
const TAPES = 5;

/** @param {number} at */
const clock = (at) => new Date(at).toTimeString().slice(0, 8);

/** @param {number} milliseconds */
export function duration(milliseconds) {
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  return milliseconds < 1_000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1_000).toFixed(1)} s`;
}

/** The same name always gets the same colour of tape. @param {string} name */
function tapeOf(name) {
  let sum = 7; // “message” on yellow
  for (const character of name) sum = (sum * 31 + character.codePointAt(0)) >>> 0;
  return `tape-${sum % TAPES}`;
}

/** @param {string} raw */
function shorten(raw) {
  const rest = raw.length - MOST_SHOWN;
  return rest > 0 ? `${raw.slice(0, MOST_SHOWN)}… and ${rest.toLocaleString("en")} more characters` : raw;
}

/** @typedef {{ name: string, raw: string, where?: string, took?: number, kind?: "notice" | "gap" | "problem" }} Row */

export class Panel {
  #element;
  #template;
  #announce;
  /** Events that a screen reader has not heard of. */
  #fresh = 0;
  #title;
  /** Rows that wait for the next frame of the screen; a hidden tab draws none, so this is bounded too. @type {object[]} */
  #waiting = [];
  #events = 0;
  #gaps = 0;
  /** @type {number[]} */ #times = [];
  #heardAt = null;
  #state = { state: "connecting" };
  #stateAt = Date.now();

  /**
   * @param {HTMLElement} parent
   * @param {{ title: string, toggle: (on: boolean) => void, announce: (subject: string, say: () => string) => void }} options
   */
  constructor(parent, { title, toggle, announce }) {
    const fragment = document.querySelector("#panel-template").content.cloneNode(true);
    this.#element = fragment.querySelector(".panel");
    this.#template = document.querySelector("#row-template").content.firstElementChild;
    this.#announce = announce;
    this.#title = title;
    this.#find("h2").textContent = title;
    this.#find(".rows").setAttribute("aria-label", `Events over ${title}, newest first`);
    this.#find(".clear").setAttribute("aria-label", `Clear ${title}`);
    this.#find(".clear").onclick = () => this.clear();
    this.#find(".toggle").onclick = () => toggle(this.#state.state === "closed");
    parent.append(fragment);
    setInterval(() => this.#showState(), 1_000);
  }

  /** @param {string} request what went over the wire to open it */
  request(request) {
    this.#find(".request").textContent = request;
  }

  /** @param {{ state: string, text?: string, advice?: string, delay?: number }} state */
  state(state) {
    const isNew = state.state !== this.#state.state;
    this.#state = state;
    this.#stateAt = Date.now();
    this.#element.dataset.state = state.state;
    this.#find(".advice").hidden = !state.advice;
    this.#find(".advice").textContent = state.advice ?? "";
    const isClosed = state.state === "closed";
    this.#find(".toggle").textContent = isClosed ? "Connect" : "Disconnect";
    this.#find(".toggle").setAttribute("aria-label", `${isClosed ? "Connect" : "Disconnect"} ${this.#title}`);
    this.#showState();
    if (isNew && state.state !== "connecting") this.#announce(this.#title, () => `${this.#title}: ${this.#stateText()}`);
  }

  /** A sign of life that is no row, such as a keep-alive. */
  heard() {
    this.#heardAt = Date.now();
  }

  /** @param {Row} row */
  add(row) {
    this.heard();
    if (!row.kind) this.#count();
    if (row.kind === "gap") this.#missed();
    if (row.took !== undefined) this.#times = [...this.#times.slice(1 - MOST_TIMES), row.took];
    if (this.#waiting.length === 0) requestAnimationFrame(() => this.#draw());
    this.#waiting.push({ ...row, raw: shorten(row.raw), at: new Date() });
    if (this.#waiting.length > MOST_ROWS) this.#waiting.shift();
  }

  #count() {
    this.#events += 1;
    this.#fresh += 1;
    this.#announce(`${this.#title} events`, () => {
      const text = `${this.#fresh} new over ${this.#title}`;
      this.#fresh = 0;
      return text;
    });
  }

  #missed() {
    this.#gaps += 1;
    this.#announce(`${this.#title} gaps`, () => `${this.#title}: events may be missing`);
  }

  clear() {
    this.#waiting = [];
    [this.#events, this.#gaps, this.#times] = [0, 0, []];
    this.#find(".rows").replaceChildren();
    this.#draw();
  }

  #draw() {
    const rows = this.#find(".rows");
    rows.prepend(...this.#waiting.splice(0).reverse().map((row) => this.#rowElement(row)));
    while (rows.childElementCount > MOST_ROWS) rows.lastElementChild.remove();
    this.#find(".events").textContent = this.#events.toLocaleString("en");
    this.#find(".gaps").textContent = this.#gaps.toLocaleString("en");
    this.#find(".gaps").classList.toggle("alert", this.#gaps > 0);
    const sorted = this.#times.toSorted((a, b) => a - b);
    this.#find(".median").textContent = sorted.length > 0 ? duration(sorted[sorted.length >> 1]) : "–";
    this.#showHeard();
  }

  #rowElement({ name, raw, where, took, kind, at }) {
    const row = this.#template.cloneNode(true);
    row.classList.add(kind ?? "event");
    row.querySelector(".tape").textContent = name;
    if (!kind) row.querySelector(".tape").classList.add(tapeOf(name));
    row.querySelector(".where").textContent = where ?? "";
    row.querySelector(".took").textContent = took === undefined ? "" : duration(took);
    row.querySelector("time").textContent = `${clock(at)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
    row.querySelector("time").dateTime = at.toISOString();
    row.querySelector(".frame").textContent = raw;
    return row;
  }

  #showState() {
    this.#find(".state").textContent = this.#stateText();
    this.#showHeard();
  }

  #stateText() {
    const since = clock(this.#stateAt);
    switch (this.#state.state) {
      case "open":
        return `Connected since ${since}`;
      case "waiting": {
        const left = Math.max(0, Math.ceil((this.#stateAt + this.#state.delay - Date.now()) / 1_000));
        return `${this.#state.text}; trying again in ${left} s`;
      }
      case "closed":
        return `${this.#state.text}, ${since}`;
      default:
        return "Connecting";
    }
  }

  #showHeard() {
    const seconds = this.#heardAt === null ? null : Math.floor((Date.now() - this.#heardAt) / 1_000);
    const text = seconds === null ? "–" : seconds < 1 ? "now" : seconds < 60 ? `${seconds} s ago` : clock(this.#heardAt);
    this.#find(".heard").textContent = text;
  }

  #find(selector) {
    return this.#element.querySelector(selector);
  }
}

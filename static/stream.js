/**
 * Reads a Server-Sent Events stream with `fetch`, for the console: `EventSource` hands over only events whose names it was told
 * beforehand, and hides the bytes, the comments and the status of a refusal. It resumes and reconnects as `EventSource` does.
 */

/** Longest wait between attempts, in milliseconds. */
const LONGEST_WAIT = 30_000;
/** A block that never ends is no event stream of ours. */
const LONGEST_BLOCK = 8 * 1024 * 1024;

/** Splits text as it comes into blocks of lines; lines end with CR, LF or both (WHATWG HTML §9.2.5). */
export class BlockReader {
  #text = "";
  #lines = [];
  #afterCarriageReturn = false;

  /** @param {string} chunk @returns {string[][]} the blocks that this chunk completes, without their empty lines */
  push(chunk) {
    if (this.#afterCarriageReturn && chunk.startsWith("\n")) chunk = chunk.slice(1);
    if (chunk !== "") this.#afterCarriageReturn = chunk.endsWith("\r");
    const lines = (this.#text + chunk).split(/\r\n|\r|\n/);
    this.#text = lines.pop();
    if (this.#text.length > LONGEST_BLOCK) throw new Error("the stream sent a line without an end");
    const blocks = [];
    for (const line of lines) {
      if (line !== "") this.#lines.push(line);
      else if (this.#lines.length > 0) blocks.push(this.#lines.splice(0));
    }
    return blocks;
  }

  /** Comments and `retry:` need no empty line after them to count. @returns {string[]} lines that belong to no event yet */
  takeLooseLines() {
    const loose = this.#lines.every((line) => line.startsWith(":") || line.startsWith("retry:"));
    return loose ? this.#lines.splice(0) : [];
  }
}

/** The fields of a block. @param {string[]} lines */
export function parseBlock(lines) {
  const block = { event: "message", data: null, id: undefined, retry: undefined };
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon === 0) continue;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") block.data = block.data === null ? value : `${block.data}\n${value}`;
    else if (field === "event") block.event = value || "message";
    else if (field === "id" && !value.includes("\0")) block.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) block.retry = Number(value);
  }
  return block;
}

export class EventStream {
  #url;
  #onBlock;
  #onState;
  #abort = new AbortController();
  #lastId = "";
  #retry = 3_000;
  #failures = 0;

  /**
   * @param {string | URL} url
   * @param {(block: ReturnType<typeof parseBlock>, lines: string[]) => void} onBlock each block as it comes, also comments only
   * @param {(state: { state: string, status?: number, message?: string, delay?: number }) => void} onState
   */
  constructor(url, onBlock, onState) {
    this.#url = url;
    this.#onBlock = onBlock;
    this.#onState = onState;
    this.#run();
  }

  close() {
    this.#abort.abort();
    this.#onState({ state: "closed", message: "closed by this page" });
  }

  async #run() {
    while (!this.#abort.signal.aborted) {
      const outcome = await this.#attempt().catch((error) => ({ message: error.message }));
      if (this.#abort.signal.aborted) return;
      if (outcome.final) return this.#onState({ state: "closed", ...outcome });
      const wait = outcome.wait ?? Math.min(LONGEST_WAIT, this.#retry * 2 ** this.#failures++);
      const delay = Math.round(wait * (0.75 + Math.random() / 2));
      this.#onState({ state: "waiting", delay, ...outcome });
      await this.#pause(delay);
    }
  }

  /** One response, from head to end. @returns what to do next */
  async #attempt() {
    this.#onState({ state: "connecting" });
    const headers = { Accept: "text/event-stream" };
    if (/^[\x21-\x7e]+$/.test(this.#lastId)) headers["Last-Event-ID"] = this.#lastId;
    const response = await fetch(this.#url, { headers, cache: "no-store", signal: this.#abort.signal });
    const { status } = response;
    if (status === 204) return { final: true, status, message: "the hub asked us not to come back" };
    if (status !== 200) return this.#refusal(response);
    this.#failures = 0;
    this.#onState({ state: "open", status });
    await this.#read(response.body.pipeThrough(new TextDecoderStream()).getReader());
    return { message: "the stream ended", wait: this.#retry };
  }

  async #read(reader) {
    const blocks = new BlockReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      for (const lines of blocks.push(value)) this.#take(lines);
      const loose = blocks.takeLooseLines();
      if (loose.length > 0) this.#take(loose);
    }
  }

  #take(lines) {
    const block = parseBlock(lines);
    if (block.id !== undefined) this.#lastId = block.id;
    if (block.retry !== undefined) this.#retry = block.retry;
    this.#onBlock(block, lines);
  }

  /** `EventSource` gives up on any status but 200; a hub that is draining or full says when to come back. */
  async #refusal(response) {
    const { status } = response;
    const body = await response.json().catch(() => ({}));
    const message = body.error?.message ?? `the hub answered ${status}`;
    if (status < 500 && status !== 429) return { final: true, status, message };
    const seconds = Number(response.headers.get("Retry-After"));
    return { status, message, wait: seconds > 0 ? seconds * 1_000 : undefined };
  }

  #pause(delay) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.#abort.signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    });
  }
}

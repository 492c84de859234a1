// What the article's eventsource.js does in every browser: EventSource over XMLHttpRequest, by POST, with the last id in a form
// body. In a page, as a plain script.

window.PostedEventSource = class extends EventTarget {
  #seen = 0;
  #rest = "";
  #lastId = "";

  constructor(url) {
    super();
    const request = new XMLHttpRequest();
    request.open("POST", url, true);
    request.setRequestHeader("Content-Type", "application/x-www-form-urlencoded");
    request.setRequestHeader("Accept", "text/event-stream");
    request.onreadystatechange = () => {
      if (request.readyState === 2 && request.status === 200) this.dispatchEvent(new Event("open"));
      if (request.readyState >= 3) this.#read(request.responseText);
    };
    request.send(this.#lastId ? `Last-Event-ID=${encodeURIComponent(this.#lastId)}` : "");
  }

  #read(text) {
    const blocks = (this.#rest + text.slice(this.#seen)).split("\n\n");
    this.#seen = text.length;
    this.#rest = blocks.pop();
    for (const block of blocks) this.#dispatch(block.split("\n"));
  }

  #dispatch(lines) {
    const values = (field) => lines.filter((line) => line.startsWith(`${field}: `)).map((line) => line.slice(field.length + 2));
    if (values("data").length === 0) return;
    this.#lastId = values("id")[0] ?? this.#lastId;
    const event = new MessageEvent(values("event")[0] ?? "message", { data: values("data").join("\n"), lastEventId: this.#lastId });
    this.dispatchEvent(event);
  }
};

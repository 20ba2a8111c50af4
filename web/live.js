// Under a Stream Sampler while it renders: the film so far, how far it is, and a line for the next prompt.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const WIDGET = "longlive_live";
const HEIGHT = 214; // pixels: the film, a line of text, the row of controls
const PAUSE = 1000; // milliseconds between two reads of the film, however fast the model is

function element(tag, style, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  made.style.cssText = style;
  return made;
}

function address(file, chunk) {
  // The chunk makes the address a new one: the film has grown.
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder, type: file.type, chunk });
  return api.apiURL(`/view?${query}`);
}

function told(event) {
  const chunks = event.chunks ? `${event.chunk + 1} of ${event.chunks} chunks` : `${event.chunk + 1} chunks`;
  const speed = event.frames_per_second ? `, ${event.frames_per_second.toFixed(1)} frames/s` : "";
  const left = event.eta_seconds ? `, ${Math.ceil(event.eta_seconds)} s left` : "";
  return `${chunks}${speed}${left}: ${event.segment.text}`;
}

class Panel {
  constructor(node) {
    this.node = node;
    this.shown = { chunk: -1, at: 0 }; // of the film that is in the player, and when it was read
    this.root = element("div", "display:flex;flex-direction:column;gap:4px;width:100%;height:100%");
    this.film = element("video", "width:100%;flex:1;min-height:0;object-fit:contain;background:#000", {
      muted: true, autoplay: true, controls: true, playsInline: true });
    this.line = element("div", "flex:none;font:11px/16px monospace;white-space:nowrap;overflow:hidden;" +
      "text-overflow:ellipsis");
    this.prompt = element("input", "flex:1;min-width:0;padding:2px 4px;font-size:12px", {
      placeholder: "next prompt", title: "What the film shows from the next chunk on; {cut} and {blend=2s} work too" });
    this.send = element("button", "padding:0 8px;font-size:12px", {
      textContent: "Send", title: "Change the prompt at the next chunk" });
    this.finish = element("button", "padding:0 8px;font-size:12px", {
      textContent: "Finish", title: "End the film after the chunk that is being made" });
    const controls = element("div", "flex:none;display:flex;gap:4px;height:24px");
    controls.append(this.prompt, this.send, this.finish);
    this.root.className = "longlive-live";
    this.line.className = "longlive-line";
    this.root.append(this.film, this.line, controls);
    this.send.onclick = () => this.post("prompt", { text: this.prompt.value });
    this.finish.onclick = () => this.post("finish", {});
    this.prompt.onkeydown = (event) => {
      event.stopPropagation(); // the graph has shortcuts of its own
      if (event.key === "Enter" && !event.isComposing) this.send.onclick();
    };
    this.film.onended = () => this.grow();
    this.film.onerror = () => { this.shown.chunk = -1; }; // read while it was written: the next chunk tries again
    const widget = node.addDOMWidget(WIDGET, WIDGET, this.root, {
      serialize: false, getMinHeight: () => HEIGHT, getMaxHeight: () => 2 * HEIGHT });
    widget.serialize = false; // not part of the workflow file either
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  }

  say(text) {
    this.line.textContent = this.line.title = text;
  }

  async post(what, body) {
    try {
      const answer = await api.fetchApi(`/longlive/live/${encodeURIComponent(this.event.take)}/${what}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const said = await answer.json();
      this.say(said.error ?? (what === "prompt" ? `from chunk ${said.chunk} on: ${body.text}` : "ends after this chunk"));
      if (!said.error && what === "prompt") this.prompt.value = "";
    } catch (error) {
      this.say(String(error)); // the server is gone
    }
  }

  show(event) {
    this.event = event;
    this.lock(false);
    this.say(told(event));
    if (event.chunk === 0) this.shown = { chunk: -1, at: 0 }; // another run
    this.grow();
  }

  // Put the film so far into the player, once what is in it has been seen.
  grow() {
    const { film, event, shown } = this;
    const again = shown.chunk < 0;
    if (event.chunk < 1 || event.chunk <= shown.chunk || !(again || film.ended)) return;
    if (performance.now() - shown.at < PAUSE) return;
    const from = again ? 0 : film.currentTime;
    this.shown = { chunk: event.chunk, at: performance.now() };
    film.src = address(event.file, event.chunk);
    film.addEventListener("loadedmetadata", () => { film.currentTime = from; }, { once: true });
  }

  lock(locked) {
    for (const control of [this.prompt, this.send, this.finish]) control.disabled = locked;
  }

  // The run is over. `film`: the whole one, as a file; none where it was discarded.
  end(film, text) {
    this.lock(true);
    this.say(text);
    this.shown.chunk = this.event.chunk; // nothing more to grow
    if (film) this.film.src = address(film, "all");
  }
}

function panelOf(id) {
  const node = app.graph.getNodeById(Number(id)) ?? app.graph.getNodeById(id);
  return node && { node, panel: node.longlivePanel }; // none: inside a subgraph, or of another workflow
}

app.registerExtension({
  name: "LongLive.Live",
  setup() {
    api.addEventListener("longlive.chunk", ({ detail }) => {
      const found = panelOf(detail.node);
      if (!found) return;
      found.node.longlivePanel ??= new Panel(found.node);
      found.node.longlivePanel.show(detail);
    });
    api.addEventListener("executed", ({ detail }) => {
      const panel = panelOf(detail.node)?.panel;
      if (!panel?.event || panel.event.prompt_id !== detail.prompt_id) return;
      const film = JSON.parse(detail.output.text[0]);
      const subfolder = panel.event.file.subfolder.replace(/[^/]*$/, film.take);
      panel.end({ filename: "film.mp4", subfolder, type: panel.event.file.type },
        `${film.chunks} chunks, ${film.seconds.toFixed(2)} s`);
    });
    for (const kind of ["execution_interrupted", "execution_error"]) {
      api.addEventListener(kind, ({ detail }) => {
        const panel = panelOf(detail.node_id)?.panel;
        if (panel?.event?.prompt_id === detail.prompt_id) panel.end(null, "stopped; queue again to go on");
      });
    }
  },
});

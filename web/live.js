// Under a Stream Sampler while it renders: the film so far, how far it is, and a line for the next prompt.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const WIDGET = "longlive_live";
const ROWS = 214; // pixels: 160 of film, a line of text, the row of controls

function element(tag, style, properties = {}) {
  return Object.assign(document.createElement(tag), { style }, properties);
}

function filmAddress(file, chunk) {
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
    this.loaded = 0; // when the film was last read, milliseconds
    this.root = element("div", "display:none;flex-direction:column;gap:4px;width:100%;height:100%");
    this.film = element("video", "width:100%;height:160px;object-fit:contain;background:#000", {
      muted: true, autoplay: true, controls: true, playsInline: true });
    this.line = element("div", "font:11px monospace;white-space:nowrap;overflow:hidden;text-overflow:ellipsis");
    this.prompt = element("input", "flex:1;min-width:0", { placeholder: "next prompt, from the next chunk on" });
    this.send = element("button", "", { textContent: "Send", title: "Change the prompt at the next chunk" });
    this.finish = element("button", "", { textContent: "Finish", title: "End the film after this chunk" });
    const controls = element("div", "display:flex;gap:4px");
    controls.append(this.prompt, this.send, this.finish);
    this.root.append(this.film, this.line, controls);
    this.send.onclick = () => this.post("prompt", { text: this.prompt.value });
    this.finish.onclick = () => this.post("finish", {});
    this.prompt.onkeydown = (event) => {
      event.stopPropagation(); // the graph has shortcuts of its own
      if (event.key === "Enter") this.send.onclick();
    };
    const widget = node.addDOMWidget(WIDGET, WIDGET, this.root, {
      serialize: false, getMinHeight: () => (this.root.style.display === "none" ? 0 : ROWS) });
    widget.serialize = false;
  }

  async post(what, body) {
    const answer = await api.fetchApi(`/longlive/live/${encodeURIComponent(this.name)}/${what}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const said = await answer.json();
    this.line.textContent = said.error ?? (what === "prompt" ? `from chunk ${said.chunk} on: ${body.text}`
      : "ends after this chunk");
    if (!said.error && what === "prompt") this.prompt.value = "";
  }

  show(event) {
    this.name = event.take;
    if (this.root.style.display === "none") {
      this.root.style.display = "flex";
      const [width, height] = this.node.computeSize();
      this.node.setSize([Math.max(this.node.size[0], width), Math.max(this.node.size[1], height)]);
    }
    this.line.textContent = told(event);
    // Read it again when what there was has been seen, and not at every chunk of a fast model.
    const seen = !this.film.currentSrc || this.film.ended || this.film.error;
    if (seen && event.chunk > 0 && performance.now() - this.loaded > 1000) {
      const from = this.film.error ? 0 : this.film.duration || 0;
      this.loaded = performance.now();
      this.film.src = filmAddress(event.file, event.chunk);
      this.film.addEventListener("loadedmetadata", () => { this.film.currentTime = from; }, { once: true });
    }
  }
}

app.registerExtension({
  name: "LongLive.Live",
  setup() {
    api.addEventListener("longlive.chunk", ({ detail }) => {
      const node = app.graph.getNodeById(Number(detail.node)) ?? app.graph.getNodeById(detail.node);
      if (!node) return; // inside a subgraph, or of another workflow
      node.longlivePanel ??= new Panel(node);
      node.longlivePanel.show(detail);
    });
  },
});

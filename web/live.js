// The panel under a Stream Sampler: the growing film, its progress, an input for the next prompt; then the result.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { element, fit, innerWidth, textBlock, textHeight } from "./layout.js";
import { store } from "./stores.js";

const SAMPLER = "LongLiveStreamSampler";
const WIDGET = "longlive_live";
const HOST_TEXT = "$$node-text-preview"; // the front end's widget for a node's text; this panel shows that text instead
const HOST_PICTURE = "$$canvas-image-preview";
const CONTROLS = 24, GAP = 4, PADDING = 20; // pixels
const PAUSE = 1000; // milliseconds, at least, between two reads of the film

function address(file, chunk) {
  // The chunk number changes the address, so that the grown film is read anew.
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder, type: file.type, chunk });
  return api.apiURL(`/view?${query}`);
}

class Panel {
  constructor(node) {
    this.node = node;
    this.size = null; // the film's [width, height]; null: nothing to show yet
    this.shown = { chunk: -1, at: 0 }; // the film in the player: its last chunk, and when it was read
    this.root = element("div", `display:flex;flex-direction:column;gap:${GAP}px;width:100%;height:100%`);
    this.film = element("video", "display:none;width:100%;flex:1;min-height:0;object-fit:contain;background:#000", {
      muted: true, autoplay: true, controls: true, playsInline: true });
    this.line = textBlock("flex:none;opacity:.85");
    this.prompt = element("input", "flex:1;min-width:0;padding:2px 4px;font-size:12px", {
      placeholder: "next prompt", title: "The prompt from the next chunk on; {cut} and {blend=2s} work too" });
    this.send = element("button", "padding:0 8px;font-size:12px", {
      textContent: "Send", title: "Change the prompt at the next chunk" });
    this.finish = element("button", "padding:0 8px;font-size:12px", {
      textContent: "Finish", title: "End the film after the chunk that is being rendered" });
    this.controls = element("div", `flex:none;display:none;gap:${GAP}px;height:${CONTROLS}px`);
    this.controls.append(this.prompt, this.send, this.finish);
    this.root.className = "longlive-live";
    this.line.className = "longlive-line";
    this.root.append(this.film, this.line, this.controls);
    this.send.onclick = () => this.post("prompt", { text: this.prompt.value });
    this.finish.onclick = () => this.post("finish", {});
    this.prompt.onkeydown = (event) => {
      event.stopPropagation(); // the graph has its own keyboard shortcuts
      if (event.key === "Enter" && !event.isComposing) this.send.onclick();
    };
    this.film.onended = () => this.grow();
    this.film.onerror = () => { this.shown.chunk = -1; }; // read while it was being written: try again at the next chunk
    const widget = node.addDOMWidget(WIDGET, WIDGET, this.root, {
      serialize: false, getMinHeight: () => this.height(), getMaxHeight: () => this.height() });
    widget.serialize = false; // not stored in the workflow file either
  }

  // Height in pixels of all parts at the node's width; a portrait film gets a square.
  height() {
    const width = innerWidth(this.node);
    const parts = [textHeight(this.line.textContent, width)];
    if (this.size) parts.push(width * Math.min(1, this.size[1] / this.size[0]));
    if (this.controls.style.display !== "none") parts.push(CONTROLS);
    return parts.reduce((sum, part) => sum + part + GAP, PADDING - GAP);
  }

  showText(text) {
    this.line.textContent = text;
    this.hideHosts();
    fit(this.node);
  }

  // Remove the front end's own preview and text, which would repeat this panel.
  hideHosts() {
    const { node } = this;
    const outputs = store("nodeOutput"), stills = outputs?.nodePreviewImages ?? app.nodePreviewImages;
    outputs?.revokePreviewsByExecutionId?.(String(node.id)); // frees them a little later
    if (stills) delete stills[node.id];
    node.imgs = undefined;
    for (const name of [HOST_TEXT, HOST_PICTURE]) {
      const index = node.widgets.findIndex((widget) => widget.name === name);
      if (index >= 0) node.widgets.splice(index, 1)[0].onRemove?.();
    }
  }

  async post(what, body) {
    try {
      const answer = await api.fetchApi(`/longlive/live/${encodeURIComponent(this.event.take)}/${what}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const result = await answer.json();
      this.showText(result.error ?? (what === "prompt" ? `from chunk ${result.chunk} on: ${body.text}` : "ends after this chunk"));
      if (!result.error && what === "prompt") this.prompt.value = "";
    } catch (error) {
      this.showText(String(error)); // the server does not answer
    }
  }

  show(event) {
    this.event = event;
    this.size = event.size;
    this.film.style.display = "block";
    this.lock(false);
    this.controls.style.display = "flex";
    this.showText(event.said);
    if (event.chunk === 0) this.shown = { chunk: -1, at: 0 }; // a new run
    this.grow();
  }

  // Show a still of the newest chunk until the player has the film.
  still(blob) {
    if (this.picture) URL.revokeObjectURL(this.picture);
    this.picture = URL.createObjectURL(blob);
    this.film.poster = this.picture;
    this.hideHosts();
  }

  // Load the film so far into the player, once the loaded part has been played.
  grow() {
    const { film, event, shown } = this;
    const again = shown.chunk < 0;
    if (!event || event.chunk < 1 || event.chunk <= shown.chunk || !(again || film.ended)) return;
    if (performance.now() - shown.at < PAUSE) return;
    const from = again ? 0 : film.currentTime;
    this.shown = { chunk: event.chunk, at: performance.now() };
    film.src = address(event.file, event.chunk);
    film.addEventListener("loadedmetadata", () => { film.currentTime = from; }, { once: true });
  }

  lock(locked) {
    for (const control of [this.prompt, this.send, this.finish]) control.disabled = locked;
  }

  // The run has ended. `film`: the whole film's file; null if it was discarded.
  end(film, text) {
    this.lock(true);
    this.controls.style.display = "none";
    if (this.event) this.shown.chunk = this.event.chunk; // no more chunks will come
    if (film) this.film.src = address(film, "all");
    this.showText(text);
  }
}

// The panel of the node with this id; null inside a subgraph, in another workflow, or for another node type.
function panelOf(id) {
  const node = app.graph.getNodeById(Number(id)) ?? app.graph.getNodeById(id);
  if (node?.comfyClass !== SAMPLER) return null;
  node.longlivePanel ??= new Panel(node);
  return node.longlivePanel;
}

function report(output) {
  try {
    return JSON.parse(output.text[0]);
  } catch {
    return null; // no report
  }
}

app.registerExtension({
  name: "LongLive.Live",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== SAMPLER) return;
    const { onExecuted, onDrawBackground } = nodeType.prototype;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      const result = report(output), panel = result && panelOf(this.id);
      if (panel?.node !== this) return;
      const file = panel.event?.file;
      const folder = file?.subfolder.replace(/[^/]*$/, result.take);
      panel.end(file && { filename: "film.mp4", subfolder: folder, type: file.type }, result.summary);
    };
    nodeType.prototype.onDrawBackground = function () {
      if (!this.longlivePanel) onDrawBackground?.apply(this, arguments); // it would draw the still again
    };
  },
  setup() {
    api.addEventListener("longlive.chunk", ({ detail }) => panelOf(detail.node)?.show(detail));
    api.addEventListener("progress_text", ({ detail }) => panelOf(detail.nodeId)?.showText(detail.text));
    api.addEventListener("b_preview_with_metadata", ({ detail }) => panelOf(detail.displayNodeId)?.still(detail.blob));
    for (const kind of ["execution_interrupted", "execution_error"]) {
      api.addEventListener(kind, ({ detail }) => {
        const panel = panelOf(detail.node_id);
        if (panel?.event?.prompt_id === detail.prompt_id) panel.end(null, "stopped: queue again to resume");
      });
    }
  },
});

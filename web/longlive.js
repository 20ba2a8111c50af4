// Shows under a LongLive node what it reports when it has run: the snapped timeline, the film's figures, sizes.
import { app } from "../../scripts/app.js";

const NODES = new Set(["LongLivePromptTimeline", "LongLiveStreamSampler", "LongLiveQuantizeINT8", "LongLiveLoadTake",
  "LongLiveBranchTake"]);
const WIDGET = "longlive_report";

function readable(text) {
  try {
    const film = JSON.parse(text);
    return `${film.frames} frames, ${film.seconds.toFixed(2)} s, ${film.chunks} chunks\n` +
      (film.frames_per_second === null ? "" :
        `rendered in ${film.render_seconds.toFixed(1)} s, ${film.frames_per_second.toFixed(1)} frames/s\n`) +
      (film.partial ? "ended early; queue again to go on\n" : "") + film.reused +
      (film.no_effect ?? []).map((line) => `\nno effect here: ${line}`).join("") +
      (film.hints ?? []).map((line) => `\nhint: ${line}`).join("");
  } catch {
    return text; // the other reports are for people already
  }
}

function reportWidget(node) {
  const found = node.widgets?.find((widget) => widget.name === WIDGET);
  if (found) return found;
  const element = document.createElement("textarea");
  element.readOnly = true;
  const wrap = node.comfyClass === "LongLiveStreamSampler" ? "pre-wrap" : "pre"; // a timeline's report has columns
  element.style.cssText = `width:100%;height:100%;resize:none;white-space:${wrap};font:11px monospace;` +
    "background:transparent;color:inherit;border:none;opacity:.85";
  const widget = node.addDOMWidget(WIDGET, WIDGET, element, {
    serialize: false,
    getMinHeight: () => 64,
    getValue: () => element.value,
    setValue: (value) => { element.value = value; },
  });
  widget.serialize = false; // not part of the workflow file either
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  return widget;
}

app.registerExtension({
  name: "LongLive.Report",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!NODES.has(nodeData.name)) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      const text = output?.text?.[0];
      if (text) {
        reportWidget(this).value = readable(text);
        this.setDirtyCanvas?.(true, true);
      }
    };
  },
});

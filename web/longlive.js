// Shows a node's report under it: the snapped timeline, sizes, a take. (For the sampler: live.js.)
import { app } from "../../scripts/app.js";
import { fit, innerWidth, textBlock, textHeight } from "./layout.js";

const NODES = new Set(["LongLivePromptTimeline", "LongLiveQuantizeINT8", "LongLiveLoadTake", "LongLiveBranchTake"]);
const WIDGET = "longlive_report";
const MOST = 260; // pixels; a longer text scrolls
const PADDING = 20; // pixels: the front end's padding above and below an element

function reportWidget(node) {
  const found = node.widgets?.find((widget) => widget.name === WIDGET);
  if (found) return found;
  const block = textBlock(`width:100%;max-height:${MOST}px;overflow-y:auto;opacity:.85`);
  block.className = "longlive-report";
  const height = () => Math.min(MOST, textHeight(block.textContent, innerWidth(node))) + PADDING;
  const widget = node.addDOMWidget(WIDGET, WIDGET, block, {
    serialize: false,
    getMinHeight: height,
    getMaxHeight: height,
    getValue: () => block.textContent,
    setValue: (value) => { block.textContent = value; },
  });
  widget.serialize = false; // not stored in the workflow file either
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
      if (!text) return;
      reportWidget(this).value = text;
      fit(this);
    };
  },
});

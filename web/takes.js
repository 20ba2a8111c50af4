// Load Take's list. The server's node definitions do not contain it, so no definition depends on stored takes. It is added
// here whenever the front end reads the definitions: when the page loads, and at R. (ComfyUI's own remote lists replace a
// saved choice by their first entry, and add a switch under the widget.)
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "LongLiveLoadTake";
const ID = /([0-9a-f]{12})\]?\s*$|^([0-9a-f]{12}) /; // in labels of this version and earlier ones

async function takes() {
  try {
    const answer = await api.fetchApi("/longlive/takes/choices");
    const result = await answer.json();
    if (!answer.ok) throw new Error(result.error);
    return result.choices;
  } catch (error) {
    console.warn("LongLive: takes cannot be listed:", error);
    return [];
  }
}

const choicesIn = (defs) => {
  const [kind, options] = defs?.[NODE]?.input?.required?.name ?? [];
  return Array.isArray(kind) ? kind : options?.options;
};

// Show a saved choice under the take's current label: length and date change when it is rendered further.
function rename(node, choices) {
  const widget = node.widgets?.find(({ name }) => name === "name");
  const found = typeof widget?.value === "string" && widget.value.match(ID);
  const label = found && choices?.find((choice) => choice.endsWith(`[${found[1] ?? found[2]}]`));
  if (label && label !== widget.value) widget.value = label;
}

let listed; // the list as last read
const getNodeDefs = api.getNodeDefs;
api.getNodeDefs = async function () {
  const [defs, labels] = await Promise.all([getNodeDefs.apply(this, arguments), takes()]);
  choicesIn(defs)?.push(...labels);
  listed = labels;
  return defs;
};

app.registerExtension({
  name: "LongLive.Takes",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    const { refreshComboInNode } = nodeType.prototype; // called at R
    nodeType.prototype.refreshComboInNode = function () {
      refreshComboInNode?.apply(this, arguments);
      rename(this, listed);
    };
  },
  loadedGraphNode(node) {
    if (node.comfyClass === NODE) rename(node, listed);
  },
});

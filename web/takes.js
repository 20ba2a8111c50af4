// Load Take's list. The server's node definitions do not have it, so that no node depends on what was rendered; here it
// goes into them wherever the front end reads them: when the page loads, and at R. (ComfyUI's own remote lists choose
// their first entry in place of a saved one, and put a switch of their own under it.)
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "LongLiveLoadTake";
const ID = /([0-9a-f]{12})\]?\s*$|^([0-9a-f]{12}) /; // in names of this version and earlier ones

async function takes() {
  try {
    const answer = await api.fetchApi("/longlive/takes/choices");
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    return said.choices;
  } catch (error) {
    console.warn("LongLive: the takes cannot be listed:", error);
    return [];
  }
}

const choicesIn = (defs) => {
  const [kind, options] = defs?.[NODE]?.input?.required?.name ?? [];
  return Array.isArray(kind) ? kind : options?.options;
};

// A saved name is shown as the take is called now: its length and date change as it is rendered on.
function rename(node, choices) {
  const widget = node.widgets?.find(({ name }) => name === "name");
  const found = typeof widget?.value === "string" && widget.value.match(ID);
  const label = found && choices?.find((choice) => choice.endsWith(`[${found[1] ?? found[2]}]`));
  if (label && label !== widget.value) widget.value = label;
}

let listed; // what the list was when it was read last
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

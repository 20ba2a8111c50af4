// Load Take's list. The server's node definitions do not have it, so that no node depends on what was rendered; here it
// goes into them wherever the front end reads them: when the page loads, and at R. (ComfyUI's own remote lists choose
// their first entry in place of a saved one, and put a switch of their own under it.)
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "LongLiveLoadTake";

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

const getNodeDefs = api.getNodeDefs;
api.getNodeDefs = async function () {
  const [defs, labels] = await Promise.all([getNodeDefs.apply(this, arguments), takes()]);
  choicesIn(defs)?.push(...labels);
  return defs;
};

// A new Stream Sampler keeps its seed after a run, so that queueing again continues the same film. Newer front ends read
// this from the node's definition; older ones begin at `randomize`. A saved workflow's own value is applied afterwards.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "LongLive.Seed",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "LongLiveStreamSampler") return;
    const onNodeCreated = nodeType.prototype.onNodeCreated;
    nodeType.prototype.onNodeCreated = function () {
      onNodeCreated?.apply(this, arguments);
      const control = this.widgets?.find((widget) => widget.name === "seed")?.linkedWidgets?.[0];
      if (control) control.value = "fixed";
    };
  },
});

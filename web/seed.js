// A new Stream Sampler keeps its seed after a run, so that queueing again goes on with the same film. Newer interfaces
// read that from the node's definition; older ones begin at `randomize`. A saved workflow's own value comes later.
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

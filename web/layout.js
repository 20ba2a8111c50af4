// Shared by the nodes' panels: text that wraps between words, and a node that keeps its width.
import { app } from "../../scripts/app.js";

const MARGIN = 10; // pixels: the front end's margin on each side of an element in a node
export const TEXT_STYLE = "box-sizing:border-box;margin:0;font:12px/16px sans-serif;white-space:pre-wrap;" +
  "overflow-wrap:break-word;word-break:normal;user-select:text;cursor:text;color:inherit";

export function element(tag, style, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  made.style.cssText = style;
  return made;
}

export const innerWidth = (node) => Math.max(80, node.size[0] - 2 * MARGIN);

// Height in pixels of a text at a width, whether its element is in the page or not.
const heights = new Map();
export function textHeight(text, width) {
  if (!text) return 0;
  const key = `${Math.round(width)} ${text}`;
  if (!heights.has(key)) {
    if (heights.size > 200) heights.clear();
    const ruler = element("div", `${TEXT_STYLE};position:absolute;visibility:hidden;width:${width}px`, { textContent: text });
    document.body.append(ruler);
    heights.set(key, ruler.offsetHeight);
    ruler.remove();
  }
  return heights.get(key);
}

// A text for reading and copying; the mouse wheel over it zooms the canvas.
export function textBlock(style = "") {
  const block = element("div", `${TEXT_STYLE};${style}`);
  block.addEventListener("wheel", (event) => {
    if (block.scrollHeight <= block.clientHeight + 1) app.canvas?.processMouseWheel?.(event);
  });
  return block;
}

// Make the node as high as its content needs, or as the user set it; never change its width.
export function fit(node) {
  if (node.longliveFitted !== node.size[1]) node.longliveOwn = node.size[1]; // set by the workflow or the user
  const height = Math.max(node.longliveOwn, node.computeSize()[1]);
  if (height !== node.size[1]) node.setSize([node.size[0], height]);
  node.longliveFitted = node.size[1];
  node.setDirtyCanvas?.(true, true);
}

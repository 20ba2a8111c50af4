// Nodes are found by the words that artists use, also in front ends without search aliases (before 0.11) or which list
// aliases last. Templates are listed in their order.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { store } from "./stores.js";

const WORDS_FILE = new URL("./search_words.json", import.meta.url);
const NONE = 9; // the front end's rank of a name without the words; 0: the whole name, 3: inside the name
const WHOLE = 1; // the rank of a whole search word, the same as for a name that begins with it
const TOP = 4; // a node found by a whole search word is at most at this place in the list
const SHORTEST = 3; // minimum number of letters for a match of a word's part

const plain = (text) => text.toLocaleLowerCase().replace(/[-_\s]+/g, " ").trim();

// How well a node's words match, in the front end's own ranks; null: no match. A whole word ranks like the beginning
// of the node's name, a part of a word like a part of the name.
function rank(search, query, node, words) {
  const text = plain(query);
  const used = (scores) => node.postProcessSearchScores?.(scores) ?? scores; // frequently used nodes come first
  if (words.some((word) => plain(word) === text)) return used([WHOLE, 0, node.display_name.length, 0]);
  if (text.length < SHORTEST) return null;
  const ranks = words.map((word) => search.calcAuxSingle(text, plain(word), 0)).filter(([main]) => main < NONE);
  if (!ranks.length) return null;
  const [main, ...rest] = ranks.sort((a, b) => search.compareAux(a, b))[0];
  return used([Math.max(3, main), ...rest]);
}

// Insert our nodes into the results by the rank of their words.
function placed(search, query, found, ours) {
  const rankOf = (node) => search.calcAuxScores(query.toLocaleLowerCase(), node, 0);
  const result = found.filter((node) => !ours.has(node));
  for (const [node, mine] of [...ours].sort((a, b) => search.compareAux(a[1], b[1]))) {
    const behind = result.findIndex((other) => search.compareAux(ours.get(other) ?? rankOf(other), mine) > 0);
    const place = behind < 0 ? result.length : behind;
    result.splice(mine[0] > WHOLE ? place : Math.min(place, TOP), 0, node);
  }
  return result;
}

function teach(service, words) {
  const prototype = Object.getPrototypeOf(service);
  const { searchNode } = prototype;
  prototype.searchNode = function (query, filters, options, ...rest) {
    const search = this.nodeFuseSearch;
    if (!query) return searchNode.call(this, query, filters, options, ...rest);
    const found = searchNode.call(this, query, filters, undefined, ...rest);
    const ours = new Map();
    for (const node of search.data) {
      const mine = words[node.name] && rank(search, query, node, words[node.name]);
      const own = mine && found.includes(node) && search.calcAuxScores(query.toLocaleLowerCase(), node, 0);
      if (!mine || (own && search.compareAux(own, mine) <= 0)) continue; // its name matches better
      // The front end applies filters, such as "takes a MODEL".
      const passes = found.includes(node) || searchNode.call(this, node.display_name, filters, undefined, ...rest).includes(node);
      if (passes) ours.set(node, mine);
    }
    const result = ours.size ? placed(search, query, found, ours) : found;
    return options?.limit ? result.slice(0, options.limit) : result;
  };
}

// The server lists templates in the disk's order; sort them.
const PACK = decodeURIComponent(import.meta.url).match(/\/extensions\/([^/]+)\//)?.[1];
const getWorkflowTemplates = api.getWorkflowTemplates;
api.getWorkflowTemplates = async function () {
  const templates = await getWorkflowTemplates.apply(this, arguments);
  templates?.[PACK]?.sort();
  return templates;
};

app.registerExtension({
  name: "LongLive.Search",
  async setup() {
    try {
      const answer = await fetch(WORDS_FILE);
      teach(store("nodeDef").nodeSearchService, await answer.json());
    } catch (error) {
      console.warn("LongLive: nodes can be found by name only:", error);
    }
  },
});

// The view in the page's address: which networks, what is open and chosen, where the reader looks, and the theme.
const PAUSE = 200; // milliseconds without a change after which the address is written
let waiting = 0;

const graphAddress = (graph) => `${graph.name}/${graph.label}`;
const graphAt = (address) => data.graphs.find((graph) => graphAddress(graph) === address);

function addressOf() {
  const parts = new URLSearchParams(), [left, right] = state.graphs, theme = document.documentElement.dataset.theme ?? "auto";
  if (left !== data.graphs[0] || right) parts.set("network", graphAddress(left));
  if (right) parts.set("beside", graphAddress(right));
  if (state.open.size) parts.set("open", [...state.open].join(" "));
  if (state.chosen) parts.set("chosen", `${state.chosen.side}:${state.chosen.item.id}`);
  if (!state.fitted) {
    const { x, y, k } = transform(), { clientWidth: width, clientHeight: height } = stage;
    parts.set("view", [(width / 2 - x) / k, (height / 2 - y) / k, 100 * k].map(Math.round).join(" "));
  }
  if (theme !== "auto") parts.set("theme", theme);
  return String(parts);
}

function keepAddress() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const address = addressOf();
    if (address === location.hash.slice(1)) return;
    try {
      history.replaceState(null, "", address ? `#${address}` : location.pathname + location.search);
    } catch {
      // a frame without an address of its own, as in a notebook
    }
  }, PAUSE);
}

// Shows what the address says; what it names and the page has not is left out.
function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (["light", "dark"].includes(parts.get("theme"))) setTheme(parts.get("theme"));
  state.open.clear();
  showGraphs(graphAt(parts.get("network")) ?? data.graphs[0], graphAt(parts.get("beside")));
  const known = new Set(state.graphs.flatMap((graph) => graph.parts.flatMap((part) => [part.key, ...part.places.map((place) => blockId(part, place))])));
  for (const id of (parts.get("open") ?? "").split(" ")) if (known.has(id)) state.open.add(id);
  render();
  const [side, id] = (parts.get("chosen") ?? "").split(/:(.*)/s);
  const item = itemOf(side, id);
  if (item) choose(Number(side), item);
  const [x, y, k] = (parts.get("view") ?? "").split(" ").map(Number);
  if (k > 0 && [x, y, k].every(Number.isFinite)) {
    const scale = Math.min(Math.max(k / 100, 0.08), 3);
    state.fitted = false;
    moveTo(stage.clientWidth / 2 - x * scale, stage.clientHeight / 2 - y * scale, scale);
  } else fit(true);
}

addEventListener("hashchange", readAddress);

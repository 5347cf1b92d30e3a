// The page's state, and what the reader does to it.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const stage = at("stage"), world = at("world"), edges = at("edges");
data.graphs.forEach((graph, index) => (graph.id = index));

const state = {
  graphs: [data.graphs[0]], open: new Set(), chosen: null, hit: "", scene: null, most: {}, differences: null,
  reads(side, part) {
    return this.graphs[side].parts.find((other) => other.key === part.reads)?.shape ?? "";
  },
};

// What differs, asked for by side and item; Python has compared every pair of a network's variants.
function differencesOf(graphs) {
  const all = graphs.length < 2 ? [] : data.differences[`${graphs[0].id}-${graphs[1].id}`] ?? [];
  const told = (entry, side) => (side === 0 ? entry.left : entry.right);
  return {
    all,
    of: (side, { type, part, op }) =>
      all.filter((entry) => entry.part === part.key && (type === "op" ? (side === 0 ? entry.op : entry.twin) === op.name : type === "part") && told(entry, side) !== null),
  };
}

function render() {
  state.scene = sceneOf(state.graphs, state.open);
  state.differences = differencesOf(state.graphs);
  for (const what of ["parameters", "macs"])
    state.most[what] = Math.max(...state.graphs.flatMap((graph) => graph.parts.map((part) => total(part, what) ?? 0)));
  const focused = document.activeElement?.dataset?.id && { ...document.activeElement.dataset };
  const made = [];
  edges.replaceChildren(defs());
  state.scene.columns.forEach((column, side) => {
    const graph = state.graphs[side];
    const tree = element("div", { role: "tree", "aria-label": `${graph.title} (${graph.variant})` });
    Object.assign(tree.style, { position: "absolute", left: `${column.x}px`, top: `${column.y}px` });
    for (const item of column.items) tree.append(drawItem(item, side, state));
    made.push(tree);
    const lines = svgElement("g", { transform: `translate(${column.x},${column.y})` });
    lines.append(drawLines(column.lines));
    edges.append(lines);
    if (state.graphs.length > 1) {
      const title = element("div", { className: "side-title", text: `${graph.title} (${graph.variant})` });
      Object.assign(title.style, { left: `${column.x}px`, top: "0", width: `${column.width - 60}px` });
      made.push(title);
    }
  });
  world.replaceChildren(...made, edges);
  mark();
  if (focused) find(focused.side, focused.id)?.focus({ preventScroll: true });
  fillPanel(at("panel"), state, (key) => reveal(0, key) || reveal(1, key));
}

function defs() {
  const made = svgElement("defs", {});
  for (const name of ["tip", "tip-skip"]) {
    const marker = svgElement("marker", { id: name, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8,
      markerUnits: "userSpaceOnUse", orient: "auto", class: name === "tip" ? "" : "skip" });
    marker.append(svgElement("path", { d: "M0,0.6L8,4L0,7.4Z" }));
    made.append(marker);
  }
  return made;
}

const find = (side, id) => world.querySelector(`[data-side="${side}"][data-id="${CSS.escape(id)}"]`);
const itemOf = (side, id) => state.scene.columns[side]?.items.find((item) => item.id === id);

function mark() {
  for (const node of world.querySelectorAll(".selected")) node.classList.remove("selected");
  if (state.chosen) find(state.chosen.side, state.chosen.item.id)?.classList.add("selected");
}

// Zoom and pan ---------------------------------------------------------------------------------

const zoom = vendor.zoom().scaleExtent([0.08, 3]).on("zoom", ({ transform }) => {
  world.style.transform = `translate(${transform.x}px,${transform.y}px) scale(${transform.k})`;
});
const view = vendor.select(stage).call(zoom).on("dblclick.zoom", null);
const transform = () => vendor.zoomTransform(stage);
const moveTo = (x, y, k) => view.call(zoom.transform, vendor.zoomIdentity.translate(x, y).scale(k));

function fit(whole) {
  const { clientWidth: width, clientHeight: height } = stage, { scene } = state;
  const k = Math.min(1.1, (width - 32) / scene.width, whole ? (height - 32) / scene.height : Infinity);
  moveTo((width - (scene.width - 60) * k) / 2, whole ? Math.max(16, (height - scene.height * k) / 2) : 16, k);
}

// An item's box, with its counterpart's on the other side: two variants are looked at together.
function boxOf(item) {
  const boxes = state.scene.columns.flatMap((column, side) => {
    const own = itemOf(side, item.id);
    return own ? [{ ...own.box, x: own.box.x + column.x, y: own.box.y + column.y }] : [];
  });
  const left = Math.min(...boxes.map((box) => box.x)), right = Math.max(...boxes.map((box) => box.x + box.width));
  const top = Math.min(...boxes.map((box) => box.y)), bottom = Math.max(...boxes.map((box) => box.y + box.height));
  return { x: left, y: top, width: right - left, height: bottom - top };
}

// Brings an item into sight; smaller only where it would be wider than the stage, and never too small to read.
function show(item) {
  const box = boxOf(item), { x, y, k: before } = transform();
  const { clientWidth: width, clientHeight: height } = stage;
  const k = Math.min(before, Math.max(width < 600 ? 0.8 : 0.5, (width - 32) / box.width));
  const kept = { x: x + box.x * (before - k), y: y + box.y * (before - k) };
  const into = (start, size, room, now) => (size > room - 32 ? (size - 32 > room ? 16 - start : (room - size) / 2 - start)
    : Math.min(Math.max(now, 16 - start), room - 16 - size - start));
  moveTo(box.width * k > width - 32 ? (width - box.width * k) / 2 - box.x * k : into(box.x * k, box.width * k, width, kept.x),
    into(box.y * k, Math.min(box.height * k, height - 33), height, kept.y), k);
}

// Opening, choosing, finding -------------------------------------------------------------------

function toggle(side, item) {
  if (!item.expandable) return choose(side, item);
  const opened = !state.open.delete(item.id);
  if (opened) state.open.add(item.id);
  state.chosen = { side, item };
  render();
  show(itemOf(side, item.id));
}

function choose(side, item) {
  state.chosen = { side, item };
  mark();
  fillPanel(at("panel"), state);
}

// Opens whatever an item stands in, chooses it and brings it into sight; false where there is none.
function reveal(side, id) {
  const graph = state.graphs[side], [key, place, name] = id.split("/");
  const part = graph?.parts.find((other) => other.key === key);
  if (!part) return false;
  if (name !== undefined) {
    state.open.add(key);
    if (part.times > 1) state.open.add(`${key}/${place}`);
  }
  render();
  const item = itemOf(side, id);
  choose(side, item);
  show(item);
  find(side, id).focus({ preventScroll: true });
  return true;
}

function layersNamed(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean), found = [];
  if (!wanted.length) return found;
  state.graphs.forEach((graph, side) => {
    for (const part of graph.parts) for (const place of part.places) for (const op of part.ops) for (const layer of op.layers) {
      const name = full(place, layer);
      if (wanted.every((word) => name.includes(word))) found.push({ side, name, id: `${part.key}/${place}/${op.name}` });
    }
  });
  return found;
}

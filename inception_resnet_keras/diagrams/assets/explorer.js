// The page's state, and what the reader does to it.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const stage = at("stage"), world = at("world"), edges = at("edges");
data.graphs.forEach((graph, index) => (graph.id = index));
for (const [pair, rows] of Object.entries(data.differences))
  data.differences[pair] = rows.map(([part, op, twin, what, text, left, right]) => ({ part, op, twin, what, text, left, right }));

const state = {
  graphs: [data.graphs[0]], open: new Set(), chosen: null, hit: "", scene: null, most: {}, differences: null,
  fitted: true, // nobody has zoomed or panned since the whole network was shown
  reads(side, part) {
    return this.graphs[side].parts.find((other) => other.key === part.reads)?.shape ?? "";
  },
};

// What differs, asked for by side and item; Python has compared every pair of networks.
function differencesOf(graphs) {
  const all = graphs.length < 2 ? [] : data.differences[`${graphs[0].id}-${graphs[1].id}`] ?? [];
  const told = (entry, side) => (side === 0 ? entry.left : entry.right);
  return {
    all,
    of: (side, { type, part, op }) =>
      all.filter((entry) => entry.part === part.key && (type === "op" ? (side === 0 ? entry.op : entry.twin) === op.name : type === "part") && told(entry, side)),
  };
}

function render() {
  chooseCards(stage.clientWidth, state.graphs.length);
  world.classList.toggle("narrow", CARD !== WIDE);
  world.classList.toggle("pair", CARD === PAIR);
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
      Object.assign(title.style, { left: `${column.x}px`, top: "0", width: `${column.inner}px` });
      made.push(title);
    }
  });
  world.replaceChildren(...made, edges);
  mark();
  if (focused) find(focused.side, focused.id)?.focus({ preventScroll: true });
  fillPanel(at("panel"), state, (key) => reveal(0, key) || reveal(1, key));
  keepAddress();
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

const zoom = vendor.zoom().scaleExtent([0.08, 3]).on("zoom", ({ transform, sourceEvent }) => {
  if (sourceEvent) state.fitted = false;
  keepAddress();
  world.style.transform = `translate(${transform.x}px,${transform.y}px) scale(${transform.k})`;
});
const view = vendor.select(stage).call(zoom).on("dblclick.zoom", null);
const transform = () => vendor.zoomTransform(stage);
const moveTo = (x, y, k) => view.call(zoom.transform, vendor.zoomIdentity.translate(x, y).scale(k));

function fit(whole) {
  const { clientWidth: width, clientHeight: height } = stage, { scene } = state;
  const k = Math.min(1.1, (width - 32) / scene.width, whole ? (height - 24) / scene.height : Infinity);
  state.fitted = Boolean(whole);
  moveTo((width - scene.width * k) / 2, whole ? Math.max(12, (height - scene.height * k) / 2) : 16, k);
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
  state.fitted = false;
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
  keepAddress();
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

// What the words stand in: a part's title, a layer's name or settings, or another project's name of it. "7x1" is "7×1".
const plain = (text) => text.toLowerCase().replaceAll("×", "x");
// A kernel is no part of a size: 7×1 does not stand in 17×17×1024.
const within = (word) => (/^\d+x\d+$/.test(word) ? ((kernel) => (text) => kernel.test(text))(new RegExp(`(?<!\\d)${word}(?!\\d)`)) : (text) => text.includes(word));

function searched(graph, wanted) {
  const found = [], has = (...texts) => wanted.every((stands) => texts.some((text) => stands(plain(text))));
  for (const part of graph.parts) {
    if (has(part.title, part.key)) found.push({ name: part.title + (part.times > 1 ? ` × ${part.times}` : ""), about: part.shape, id: part.key });
    for (const place of part.places) for (const op of part.ops) {
      const id = `${part.key}/${place}/${op.name}`, own = full(place, op.name);
      const layers = op.layers.map((layer) => full(place, layer)).filter((layer) => has(layer));
      if (layers.length) found.push(...layers.map((name) => ({ name, id, layer: name })));
      else if (has(`${op.title} ${op.detail}`, part.title, own)) found.push({ name: own, about: `${op.title} ${op.detail}`, id });
      else {
        const theirs = namesElsewhere(graph, own).find(([project, name]) => has(`${project} ${name}`));
        if (theirs) found.push({ name: own, about: theirs[1], id });
      }
    }
  }
  return found.map((hit) => ({ ...hit, graph }));
}

// In the networks that are shown; where they have nothing of the kind, in all others of the page.
function searchedEverywhere(words) {
  const wanted = plain(words).split(/\s+/).filter(Boolean).map(within);
  if (!wanted.length) return [];
  const here = state.graphs.flatMap((graph) => searched(graph, wanted));
  return here.length ? here : data.graphs.filter((graph) => !state.graphs.includes(graph)).flatMap((graph) => searched(graph, wanted));
}

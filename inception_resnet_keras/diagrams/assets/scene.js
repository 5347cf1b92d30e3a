// What is open → boxes and lines, in pixels. Nothing here touches the document but the text measure.
// A narrow card is one line, its name and its shape; of two networks side by side these are two lines.
const WIDE = { width: 704, height: 58, gap: 30 }, NARROW = { width: 350, height: 36, gap: 14 }, PAIR = { width: 236, height: 50, gap: 14 };
let CARD = WIDE;
const BLOCK = { width: 300, height: 38 }, GAP = 40, INSET = 18, SIDE_GAP = 90, SKIP = 84;
const FONTS = { name: "650 13px system-ui, sans-serif", detail: "12px system-ui, sans-serif", layer: "11px monospace", shape: "11px system-ui, sans-serif" };

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  return (text, font) => ((context.font = font), context.measureText(text).width);
})();

// What a card says below its title, in lines that leave room for the shape beside them.
const FIGURE = { width: 250, line: 16 };
function linesOf(part) {
  const [first, ...rest] = part.inside.split(", "), lines = [first];
  for (const words of rest) {
    const longer = `${lines.at(-1)}, ${words}`;
    if (measure(`${longer},`, FONTS.detail) <= FIGURE.width) lines[lines.length - 1] = longer;
    else lines.push(`${lines.pop()},`, words);
  }
  return lines;
}
const headOf = (part) => CARD.height + (CARD === WIDE ? FIGURE.line * (linesOf(part).length - 1) : 0);

// Where there is little width for each network, as on a phone, cards are narrow: the whole network is seen, in letters
// that can be read.
function chooseCards(width, networks) {
  CARD = width / networks >= 500 ? WIDE : networks > 1 ? PAIR : NARROW;
}

const READS = "reads"; // what a block reads, among its operations' names
const full = (place, name) => (place ? `${place}_${name}` : name);

// A block's operations laid out, with a shape on every line; cached, as it never changes.
const bodies = new Map();
function bodyOf(graph, part, place) {
  const key = `${graph.id}:${part.key}:${place}`;
  if (!bodies.has(key)) bodies.set(key, layOut(graph, part, place));
  return bodies.get(key);
}

function layOut(graph, part, place) {
  const chart = new vendor.dagre.graphlib.Graph();
  chart.setGraph({ rankdir: "TB", nodesep: 26, ranksep: 30, edgesep: 18, marginx: 4, marginy: 4 });
  const reads = graph.parts.find((other) => other.key === part.reads);
  const shapes = new Map([["", reads.shape]]);
  chart.setNode(READS, { width: measure(`input ${reads.shape}`, FONTS.name) + 30, height: 34 });
  for (const op of part.ops) {
    shapes.set(op.name, op.shape);
    const lines = op.layers.map((layer) => measure(full(place, layer), FONTS.layer));
    const width = Math.max(96, measure(`${op.title} ≠`, FONTS.name) + 12, measure(op.detail, FONTS.detail), ...lines) + 26;
    chart.setNode(op.name, { width, height: 14 + 18 + (op.detail ? 16 : 0) + 15 * lines.length });
  }
  const joins = part.ops.flatMap((op) => op.inputs.map((name) => ({ op, name, skip: op.kind === "sum" && name === op.inputs[0] })));
  for (const { op, name, skip } of joins) {
    const text = shapes.get(name);
    if (!skip) chart.setEdge(name || READS, op.name, { text, width: measure(text, FONTS.shape) + 10, height: 16, labelpos: "c" });
  }
  vendor.dagre.layout(chart);
  const skips = joins.filter(({ skip }) => skip), { width, height } = chart.graph(), room = skips.length ? SKIP : 0;
  const turn = mirrored(part, chart) ? (x) => width - x + room : (x) => x + room;
  const nodes = new Map(chart.nodes().map((name) => [name, { ...chart.node(name), x: turn(chart.node(name).x) }]));
  const edges = chart.edges().map((edge) => {
    const { points, text, x, y } = chart.edge(edge), tail = nodes.get(edge.v), head = nodes.get(edge.w);
    const between = points.slice(1, -1).map((point) => ({ x: turn(point.x), y: point.y }));
    const way = [{ x: tail.x, y: tail.y + tail.height / 2 }, ...between, { x: head.x, y: head.y - head.height / 2 }];
    return { text, at: { x: turn(x), y }, points: squared(way) };
  });
  return { width: width + 2 * room, height, nodes, edges: edges.concat(skips.map(({ op, name }) => skipLine(nodes.get(name || READS), nodes.get(op.name), shapes.get(name)))) };
}

// Down and across only: the line turns right below its beginning, or right above its end.
function squared(points) {
  const out = [points[0]];
  for (let i = 1; i < points.length; i++) {
    const from = points[i - 1], to = points[i], y = i === 1 ? from.y + 11 : to.y - 13;
    if (Math.abs(from.x - to.x) > 0.5) out.push({ x: from.x, y }, { x: to.x, y });
    out.push(to);
  }
  return out.filter((point, i) => !(i && i < out.length - 1 && point.x === out[i - 1].x && point.x === out[i + 1].x));
}

// The layout may put the branches the other way round: the first belongs on the left, as in the paper.
function mirrored(part, chart) {
  const first = part.ops.find((op) => op.inputs.length && part.ops.filter((other) => other.inputs[0] === op.inputs[0]).length > 1);
  if (!first) return false;
  const last = part.ops.findLast((op) => op.kind !== "sum" && op.inputs[0] === first.inputs[0]);
  return chart.node(first.name).x > chart.node(last.name).x;
}

// A residual block's input on its way past the branches.
function skipLine(tail, head, text) {
  const from = { x: tail.x - tail.width / 2, y: tail.y }, to = { x: head.x - head.width / 2, y: head.y }, x = SKIP / 2;
  return { text, skip: true, points: [from, { x, y: from.y }, { x, y: to.y }, to], at: { x, y: (from.y + to.y) / 2 } };
}

// One network as items and lines; `open` holds the ids of what is open, `rows` the least height of each part's row.
function columnOf(graph, open, order, rows) {
  const items = [], lines = [], heights = new Map();
  const widths = graph.parts.map((part) => partSize(graph, part, open).width);
  const width = Math.max(CARD.width, ...widths), middle = width / 2;
  let y = 0;
  const ends = new Map();
  for (const key of order) {
    const part = graph.parts.find((other) => other.key === key);
    const size = part ? partSize(graph, part, open) : { width: 0, height: 0 };
    heights.set(key, size.height);
    if (part) {
      const box = { x: middle - size.width / 2, y, ...size };
      items.push({ type: "part", id: part.key, part, box, expandable: part.reads !== "", level: 1 });
      inside(graph, part, box, open, items, lines);
      ends.set(part.key, box);
      if (part.reads) lines.push(between(ends.get(part.reads), box, graph, part, width));
    }
    y += Math.max(size.height, rows?.get(key) ?? 0) + CARD.gap;
  }
  return { items, lines, inner: width, width: width + (lines.some((line) => line.aside) ? 60 : 0), height: y - CARD.gap, heights };
}

function between(tail, head, graph, part, width) {
  const text = graph.parts.find((other) => other.key === part.reads).shape;
  const follows = graph.parts[graph.parts.indexOf(part) - 1].key === part.reads;
  const a = { x: tail.x + tail.width / 2, y: tail.y + tail.height }, b = { x: head.x + head.width / 2, y: head.y };
  if (follows) return { points: [a, b], text: CARD === WIDE ? text : "", at: { x: a.x, y: b.y - CARD.gap / 2 } };
  const out = width + 34, from = { x: tail.x + tail.width, y: tail.y + 24 }, to = { x: head.x + head.width, y: head.y + 24 };
  return { aside: true, points: [from, { x: out, y: from.y }, { x: out, y: to.y }, to], text, at: { x: out, y: (from.y + to.y) / 2 } };
}

const blockId = (part, place) => `${part.key}/${place}`;

function blockSize(graph, part, place, open) {
  if (!open.has(blockId(part, place))) return BLOCK;
  const body = bodyOf(graph, part, place);
  return { width: Math.max(BLOCK.width, body.width + 2 * INSET), height: BLOCK.height + body.height + INSET };
}

function partSize(graph, part, open) {
  if (!open.has(part.key)) return { width: CARD.width, height: headOf(part) };
  if (part.times === 1) {
    const body = bodyOf(graph, part, part.places[0]);
    return { width: Math.max(CARD.width, body.width + 2 * INSET), height: headOf(part) + body.height + INSET };
  }
  const sizes = part.places.map((place) => blockSize(graph, part, place, open));
  const height = sizes.reduce((sum, size) => sum + size.height, 0) + (sizes.length - 1) * GAP;
  return { width: Math.max(CARD.width, ...sizes.map((size) => size.width + 2 * INSET)), height: headOf(part) + height + INSET };
}

function inside(graph, part, box, open, items, lines) {
  if (!open.has(part.key)) return;
  if (part.times === 1) return body(graph, part, part.places[0], box, headOf(part), 2, items, lines);
  let y = box.y + headOf(part), before;
  for (const place of part.places) {
    const size = blockSize(graph, part, place, open);
    const at = { x: box.x + box.width / 2 - size.width / 2, y, ...size };
    items.push({ type: "block", id: blockId(part, place), part, place, box: at, expandable: true, level: 2 });
    if (open.has(blockId(part, place))) body(graph, part, place, at, BLOCK.height, 3, items, lines);
    const middle = box.x + box.width / 2;
    if (before) lines.push({ points: [{ x: middle, y: before }, { x: middle, y }], text: part.shape, at: { x: middle, y: y - GAP / 2 }, under: "card" });
    before = y + size.height;
    y = before + GAP;
  }
}

function body(graph, part, place, box, top, level, items, lines) {
  const drawn = bodyOf(graph, part, place);
  const left = box.x + (box.width - drawn.width) / 2, down = box.y + top;
  for (const [name, node] of drawn.nodes) {
    const at = { x: left + node.x - node.width / 2, y: down + node.y - node.height / 2, width: node.width, height: node.height };
    const op = part.ops.find((other) => other.name === name);
    items.push({ type: op ? "op" : "reads", id: `${blockId(part, place)}/${name}`, part, place, op, box: at, level });
  }
  const moved = ({ x, y }) => ({ x: x + left, y: y + down });
  for (const edge of drawn.edges) lines.push({ ...edge, points: edge.points.map(moved), at: moved(edge.at), under: level > 2 ? "paper" : "card" });
}

// The networks side by side, each part in one row, so that the eye compares them.
function sceneOf(graphs, open) {
  const order = merged(graphs.map((graph) => graph.parts.map((part) => part.key)));
  let columns = graphs.map((graph) => columnOf(graph, open, order));
  if (columns.length > 1) {
    const rows = new Map(order.map((key) => [key, Math.max(...columns.map((column) => column.heights.get(key)))]));
    columns = graphs.map((graph) => columnOf(graph, open, order, rows));
  }
  let x = 0;
  const placed = columns.map((column) => {
    const at = { ...column, x, y: graphs.length > 1 ? 40 : 0 };
    x += column.width + (CARD === WIDE ? SIDE_GAP : 12);
    return at;
  });
  return { columns: placed, width: x - (CARD === WIDE ? SIDE_GAP : 12), height: Math.max(...placed.map((column) => column.y + column.height)) };
}

// Every key in an order that keeps both lists' own.
function merged([first, second = []]) {
  const order = [...first];
  second.forEach((key, index) => {
    if (order.includes(key)) return;
    const after = second.slice(0, index).reverse().find((other) => order.includes(other));
    order.splice(after ? order.indexOf(after) + 1 : 0, 0, key);
  });
  return order;
}

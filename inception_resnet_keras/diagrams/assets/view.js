// A scene → the document. Every text goes in as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";

function element(tag, { className = "", text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svgElement(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const short = (count) => {
  if (count === null) return "?";
  for (const [size, letter] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]])
    if (count >= size) return (count / size).toFixed(count / size < 10 ? 2 : count / size < 100 ? 1 : 0) + letter;
  return String(count);
};

const exact = (count) => (count === null ? "not known" : count.toLocaleString("en"));

function drawItem(item, side, state) {
  const { box, part, op } = item;
  const different = state.differences.of(side, item);
  const node = element("div", { className: `item ${item.type} kind-${op ? op.kind : part.kind}` });
  Object.assign(node.style, { left: `${box.x}px`, top: `${box.y}px`, width: `${box.width}px`, height: `${box.height}px` });
  node.style.zIndex = item.type === "op" || item.type === "reads" ? 2 : 0;
  if (item.type === "reads") {
    node.className = "item op reads";
    node.append(element("div", { className: "name", text: `input ${state.reads(side, part)}` }));
    return node;
  }
  node.dataset.id = item.id;
  node.dataset.side = side;
  node.tabIndex = 0;
  node.setAttribute("role", "treeitem");
  node.setAttribute("aria-level", item.level);
  node.setAttribute("aria-label", spoken(item) + (different.length ? `, differs: ${different.map((entry) => entry.text).join("; ")}` : ""));
  if (item.expandable) node.setAttribute("aria-expanded", state.open.has(item.id));
  node.classList.toggle("differs", different.length > 0);
  node.append(...{ part: partInside, block: blockInside, op: opInside }[item.type](item, state, different));
  return node;
}

function spoken({ type, part, place, op }) {
  if (type === "op") return `${op.title} ${op.detail}, ${full(place, op.name)}, output ${op.shape}`;
  if (type === "block") return `${place}, output ${part.shape}`;
  const run = part.times > 1 ? `, ${part.times} blocks` : "";
  return `${part.title}${run}, output ${part.shape}, ${exact(total(part, "parameters"))} parameters, ${exact(total(part, "macs"))} multiply-adds`;
}

const total = (part, what) => (part[what] === null ? null : part[what] * part.times);
const chevron = (item, state) => element("span", { className: "chevron", text: state.open.has(item.id) ? "▾" : "▸", "aria-hidden": "true" });

function partInside(item, state, different) {
  const { part } = item;
  const changed = (what) => (different.some((entry) => entry.what === what) ? " changed" : "");
  const name = element("div", { className: "name", text: part.title + part.note });
  if (part.times > 1) name.append(" ", element("span", { className: `times${changed("blocks")}`, text: `× ${part.times}` }));
  if (different.length) name.append(" ", element("span", { className: "badge", text: "≠", title: "differs from the other network" }));
  const bars = element("div", { className: "bars" });
  for (const [what, label] of [["parameters", "parameters"], ["macs", "multiply-adds"]]) {
    const fill = element("div", { className: "fill" });
    fill.style.width = `${(100 * (total(part, what) ?? 0)) / (state.most[what] || 1)}%`;
    bars.append(element("span", { className: "label", text: label }), element("div", { className: "track" }, fill),
      element("span", { className: "count", text: short(total(part, what)) }));
  }
  const strip = element("div", { className: "strip" });
  strip.style.height = `${headOf(part) - (CARD === WIDE ? 20 : 16)}px`;
  const parts = [strip, name, element("div", { className: `shape${changed("output")}`, text: part.shape })];
  if (CARD === WIDE) parts.push(element("div", { className: "figure", text: linesOf(part).join("\n") }), bars);
  const corner = element("div", { className: "corner" });
  if (item.expandable) corner.append(chevron(item, state));
  parts.push(corner);
  return parts;
}

function blockInside(item, state) {
  return [element("div", { className: "name", text: item.place }), element("div", { className: "shape", text: item.part.shape }),
    element("div", { className: "corner" }, chevron(item, state))];
}

function opInside({ op, place }, state, different) {
  const parts = [element("div", { className: "name", text: op.title })];
  if (different.length) parts[0].append(" ", element("span", { className: "badge", text: "≠" }));
  if (op.detail) parts.push(element("div", { className: "detail", text: op.detail }));
  for (const layer of op.layers) {
    const name = full(place, layer);
    parts.push(element("div", { className: name === state.hit ? "layer hit" : "layer", text: name }));
  }
  return parts;
}

function drawLines(lines) {
  const group = document.createDocumentFragment(), labels = document.createDocumentFragment();
  for (const line of lines) {
    group.append(svgElement("path", { d: curve(line), class: line.skip ? "skip" : "", "marker-end": `url(#${line.skip ? "tip-skip" : "tip"})` }));
    if (!line.text) continue;
    const width = measure(line.text, FONTS.shape) + 6;
    labels.append(svgElement("rect", { class: `under-${line.under ?? "paper"}`, x: line.at.x - width / 2, y: line.at.y - 8, width, height: 16, rx: 3 }));
    labels.append(svgElement("text", { x: line.at.x, y: line.at.y }, line.text));
  }
  group.append(labels);
  return group;
}

// Straight, with rounded bends.
function curve({ points }) {
  const [first, ...rest] = points;
  let path = `M${first.x},${first.y}`;
  rest.forEach((to, index) => {
    const after = rest[index + 1];
    path += after ? `L${towards(to, points[index])}Q${to.x},${to.y} ${towards(to, after)}` : `L${to.x},${to.y}`;
  });
  return path;
}

function towards(bend, other) {
  const length = Math.hypot(other.x - bend.x, other.y - bend.y), share = Math.min(9, length / 2) / (length || 1);
  return `${bend.x + (other.x - bend.x) * share},${bend.y + (other.y - bend.y) * share}`;
}

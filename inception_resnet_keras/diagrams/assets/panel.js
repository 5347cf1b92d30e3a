// What stands beside the diagram: the details of what is chosen, the differences, the footnotes.
function fillPanel(panel, state, choose) {
  panel.replaceChildren(...(state.chosen ? details(state) : overviewOf(state, choose)));
}

// What other projects call a layer: pairs of a project and its name.
function namesElsewhere(graph, layer) {
  const place = graph.elsewhere.layers.indexOf(layer);
  return place < 0 ? [] : graph.elsewhere.projects.flatMap(([project, names]) => (names[place] ? [[project, names[place]]] : []));
}

function facts(pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) if (value) list.append(element("dt", { text: name }), element("dd", { text: value }));
  return list;
}

function details(state) {
  const { side, item } = state.chosen, { part, place, op } = item;
  const graph = state.graphs[side], one = op ?? part;
  const reads = op ? op.inputs.map((name) => (name ? part.ops.find((other) => other.name === name).shape : state.reads(side, part))).join(", ") : state.reads(side, part);
  const out = [element("h2", { text: op ? op.title : item.type === "block" ? place : part.title + part.note }),
    element("p", { className: "muted", text: `${graph.title} (${graph.variant})` + (op || item.type === "block" ? ` · ${part.title}` : "") })];
  const run = item.type === "part" && part.times > 1;
  out.push(facts([[op ? "settings" : "figure", op ? op.detail : part.figure], ["blocks", run ? `${part.times}: ${part.places[0]} to ${part.places.at(-1)}` : ""],
    ["input", reads], ["output", one.shape], ["parameters", exact(one.parameters) + (run ? ` each, ${exact(total(part, "parameters"))} in all` : "")],
    ["multiply-adds", exact(one.macs) + (run ? ` each, ${exact(total(part, "macs"))} in all` : "")]]));
  if (op) {
    const names = element("ul");
    for (const layer of op.layers) names.append(element("li", {}, element("code", { text: full(place, layer) })));
    out.push(element("h3", { text: "Keras layers" }), names);
    const theirs = namesElsewhere(graph, full(place, op.name));
    if (theirs.length) {
      const pairs = element("dl", { className: "elsewhere" });
      for (const [source, name] of theirs) pairs.append(element("dt", { text: source }), element("dd", {}, element("code", { text: name })));
      out.push(element("h3", { text: "In other projects" }), pairs);
    }
  }
  const different = state.differences.of(side, item);
  if (different.length) out.push(element("h3", { text: "Differs from the other network" }), list(different));
  const marks = op ? op.note : part.note + part.ops.map((other) => other.note).join("");
  for (const [mark, text] of graph.notes) if (marks.includes(mark)) out.push(element("p", { className: "note", text: `${mark} ${text}` }));
  return out;
}

function overviewOf(state, choose) {
  const out = [];
  for (const graph of state.graphs) {
    out.push(element("h2", { text: `${graph.title} (${graph.variant})` }));
    out.push(facts([["figure", graph.figure], ["parameters", exact(graph.parameters)], ["multiply-adds", exact(graph.macs)]]));
  }
  if (state.graphs.length > 1) {
    const found = state.differences.all;
    const rows = element("ul", { className: "differences" });
    for (const key of new Set(found.map((entry) => entry.part))) {
      const part = state.graphs.flatMap((graph) => graph.parts).find((other) => other.key === key);
      const button = element("button", { text: part.title });
      button.addEventListener("click", () => choose(key));
      rows.append(element("li", {}, button, list(found.filter((entry) => entry.part === key))));
    }
    out.push(element("h3", { text: found.length ? `${found.length} differences` : "No differences" }), rows);
  }
  for (const graph of state.graphs) for (const [mark, text] of graph.notes)
    out.push(element("p", { className: "note", text: `${state.graphs.length > 1 ? `${graph.variant}: ` : ""}${mark} ${text}` }));
  const keys = element("p", { className: "keys muted" });
  for (const [key, does] of [["Tab", "next"], ["↑ ↓", "move"], ["Enter", "open or close"], ["→ ←", "in and out"], ["+ − 0", "zoom"], ["/", "find"]])
    keys.append(element("kbd", { text: key }), ` ${does}  `);
  out.push(element("h3", { className: "keys", text: "Keys" }), keys);
  return out;
}

function list(entries) {
  const made = element("ul");
  for (const { text } of entries) made.append(element("li", { text }));
  return made;
}

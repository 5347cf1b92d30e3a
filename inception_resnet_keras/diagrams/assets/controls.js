// The header's fields and the keyboard.
const search = at("search"), results = at("results"), MOST_RESULTS = 40;
let hits = [], active = 0;

function listResults() {
  hits = searchedEverywhere(search.value);
  active = 0;
  const rows = hits.slice(0, MOST_RESULTS).map((hit, index) => {
    const whose = state.graphs.length > 1 || !state.graphs.includes(hit.graph) ? `${hit.graph.network}, ${hit.graph.variant}` : "";
    const row = element("li", { role: "option", id: `hit-${index}`, text: hit.name });
    for (const text of [hit.about, whose]) if (text) row.append(element("span", { className: "about", text }));
    row.addEventListener("pointerdown", (event) => (event.preventDefault(), take(index)));
    return row;
  });
  if (hits.length > MOST_RESULTS) rows.push(element("li", { className: "none", text: `and ${hits.length - MOST_RESULTS} more` }));
  if (!hits.length) rows.push(element("li", { className: "none", text: "no layer, part or kernel has such a name" }));
  results.replaceChildren(...rows);
  results.hidden = !search.value.trim();
  search.setAttribute("aria-expanded", !results.hidden);
  markResult();
}

function markResult() {
  [...results.children].forEach((row, index) => row.role === "option" && row.setAttribute("aria-selected", index === active));
  if (hits.length) search.setAttribute("aria-activedescendant", `hit-${active}`);
  else search.removeAttribute("aria-activedescendant");
  results.children[active]?.scrollIntoView({ block: "nearest" });
}

function take(index) {
  const hit = hits[index];
  if (!hit) return;
  results.hidden = true;
  search.setAttribute("aria-expanded", false);
  if (!state.graphs.includes(hit.graph)) (state.open.clear(), showGraphs(hit.graph));
  state.hit = hit.layer ?? "";
  reveal(state.graphs.indexOf(hit.graph), hit.id);
}

search.addEventListener("input", listResults);
search.addEventListener("blur", () => (results.hidden = true));
search.addEventListener("keydown", (event) => {
  const last = Math.min(hits.length, MOST_RESULTS) - 1;
  if (event.key === "ArrowDown") active = Math.min(active + 1, last);
  else if (event.key === "ArrowUp") active = Math.max(active - 1, 0);
  else if (event.key === "Enter") return take(active);
  else if (event.key === "Escape") return (results.hidden = true);
  else return;
  event.preventDefault();
  markResult();
});

// Networks, variants, the theme -----------------------------------------------------------------

const names = [...new Set(data.graphs.map((graph) => graph.name))];
const variantsOf = (name) => data.graphs.filter((graph) => graph.name === name);
const label = (graph) => graph.label;

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value, text })));
  select.value = chosen;
}

function showGraphs(left, right) {
  state.graphs = right === undefined ? [left] : [left, right];
  state.chosen = null;
  state.hit = "";
  const variants = variantsOf(left.name), others = [...variants, ...data.graphs.filter((graph) => graph.name !== left.name)].filter((graph) => graph !== left);
  const named = (graph) => (graph.name === left.name ? label(graph) : `${graph.network} · ${label(graph)}`);
  options(at("network"), names.map((name) => [name, variantsOf(name)[0].network]), left.name);
  options(at("variant"), variants.map((graph) => [graph.id, label(graph)]), left.id);
  options(at("compare"), [["", "nothing"], ...others.map((graph) => [graph.id, named(graph)])], right?.id ?? "");
  at("network-field").hidden = names.length < 2;
  at("compare-field").hidden = !others.length;
  at("title").textContent = left.title;
  const keep = new Set(state.graphs.flatMap((graph) => graph.parts.map((part) => part.key)));
  for (const id of [...state.open]) if (!keep.has(id.split("/")[0])) state.open.delete(id);
  render();
  fit(true);
}

at("network").addEventListener("change", ({ target }) => (state.open.clear(), showGraphs(variantsOf(target.value)[0])));
at("variant").addEventListener("change", ({ target }) => showGraphs(data.graphs[target.value]));
at("compare").addEventListener("change", ({ target }) =>
  showGraphs(state.graphs[0], target.value === "" ? undefined : data.graphs[target.value]));
at("zoom-in").addEventListener("click", () => view.call(zoom.scaleBy, 1.3));
at("zoom-out").addEventListener("click", () => view.call(zoom.scaleBy, 1 / 1.3));
at("fit").addEventListener("click", () => fit(true));
at("fold").addEventListener("click", () => (state.open.clear(), (state.chosen = null), render(), fit(true)));
at("theme").addEventListener("click", ({ target }) => {
  const themes = ["auto", "light", "dark"];
  setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3]);
  keepAddress();
});

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  at("theme").textContent = `Theme: ${theme}`;
}

// The diagram by mouse and keyboard ---------------------------------------------------------------

const targetOf = (event) => event.target.closest?.("[data-id]");

world.addEventListener("click", (event) => {
  const node = targetOf(event);
  if (node) toggle(Number(node.dataset.side), itemOf(node.dataset.side, node.dataset.id));
});
stage.addEventListener("click", (event) => {
  if (event.target === stage || event.target === world) (state.chosen = null), render();
});
world.addEventListener("focusin", (event) => {
  stage.scrollTo(0, 0); // the browser scrolls what it focuses into sight: the zoom does that here
  const node = targetOf(event);
  if (node?.matches(":focus-visible")) show(itemOf(node.dataset.side, node.dataset.id));
});
stage.addEventListener("scroll", () => stage.scrollTo(0, 0));

world.addEventListener("keydown", (event) => {
  const node = targetOf(event);
  if (!node) return;
  const { side, id } = node.dataset, item = itemOf(side, id), items = [...node.parentElement.querySelectorAll("[data-id]")];
  const step = (by) => items[items.indexOf(node) + by]?.focus({ preventScroll: true });
  const open = state.open.has(id);
  const acts = {
    Enter: () => toggle(Number(side), item),
    " ": () => toggle(Number(side), item),
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
    ArrowRight: () => (item.expandable && !open ? toggle(Number(side), item) : item.expandable && step(1)),
    ArrowLeft: () => (open ? toggle(Number(side), item) : id.includes("/") && parent(side, id)?.focus({ preventScroll: true })),
    Home: () => items[0].focus({ preventScroll: true }),
    End: () => items.at(-1).focus({ preventScroll: true }),
  };
  if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  acts[event.key]();
});

const parent = (side, id) => find(side, id.slice(0, id.lastIndexOf("/"))) ?? find(side, id.split("/")[0]);

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const acts = { "+": () => at("zoom-in").click(), "-": () => at("zoom-out").click(), 0: () => fit(true), "/": () => search.focus() };
  if (acts[event.key]) event.preventDefault(), acts[event.key]();
});

for (const [kind, text] of Object.entries(data.kinds)) at("legend").append(element("span", { className: `kind-${kind}` }, element("i"), text));

// A window that changes shows the whole network again, unless the reader looks at a place of it.
addEventListener("resize", () => {
  const before = CARD;
  chooseCards(stage.clientWidth, state.graphs.length);
  if (CARD !== before) render();
  if (state.fitted) fit(true);
});
readAddress();

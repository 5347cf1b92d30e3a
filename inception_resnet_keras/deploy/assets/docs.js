
const get = (id) => document.getElementById(id);

get("file").addEventListener("change", async () => {
  const [file] = get("file").files;
  if (!file) return;
  URL.revokeObjectURL(get("shown").src);
  get("shown").src = URL.createObjectURL(file);
  get("classes").replaceChildren();
  get("status").textContent = "…";
  get("result").hidden = false;
  const started = performance.now();
  try {
    const answer = await fetch("predict", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    for (const [name, probability] of found[0].top ?? []) {
      const row = get("classes").insertRow();
      row.insertCell().textContent = name;
      row.insertCell().textContent = (100 * probability).toFixed(1) + " %";
    }
    get("status").textContent = Math.round(performance.now() - started) + " ms";
  } catch (error) {
    get("status").textContent = error.message;
  }
});

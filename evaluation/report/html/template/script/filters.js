// The bar of filters: a list of values per key, and a search.
function readFilter(filter) {
  const boxes = findAll("input", filter);
  const off = boxes.filter((box) => !box.checked);
  state.hidden[filter.dataset.key] = new Set(off.map((box) => box.value));
  filter.classList.toggle("active", off.length > 0);
  const kept = boxes.length - off.length;
  const only = kept === 1 ? boxes.find((box) => box.checked).value || "(none)" : `${kept} of ${boxes.length}`;
  find(".chosen", filter).textContent = off.length ? only : "";
}

function startFilters() {
  const bar = find("#bar");
  bar.hidden = false;
  const filters = findAll(".filter", bar);
  for (const filter of filters) {
    filter.addEventListener("change", () => { readFilter(filter); changed("filters"); });
    findAll("[data-set]", filter).forEach((button) => button.addEventListener("click", () => {
      findAll("input", filter).forEach((box) => { box.checked = button.dataset.set === "all"; });
      readFilter(filter);
      changed("filters");
    }));
    filter.addEventListener("toggle", () => {
      if (filter.open) filters.filter((other) => other !== filter).forEach((other) => { other.open = false; });
    });
    filter.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      filter.open = false;
      find("summary", filter).focus();
    });
  }
  document.addEventListener("click", (event) => {
    filters.filter((filter) => !filter.contains(event.target)).forEach((filter) => { filter.open = false; });
  });
  let waiting;
  find("#search").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      changed("filters");
    }, 200);
  });
  bar.addEventListener("submit", (event) => event.preventDefault());
  bar.addEventListener("reset", () => setTimeout(() => {
    state.words = [];
    filters.forEach(readFilter);
    sortTable(find("#runs"), null, 1);
    changed("filters");
  }));
}

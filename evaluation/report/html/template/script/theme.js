// Light, dark or the system's theme, and the style sheet's colours for the charts.
const THEMES = { system: "light dark", light: "light", dark: "dark" };

function colour(name) {
  const probe = make("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}

function startTheme() {
  const button = find("#theme");
  let chosen = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    chosen = (chosen + 1) % names.length;
    document.documentElement.style.colorScheme = THEMES[names[chosen]];
    find("span", button).textContent = names[chosen];
    changed("theme");
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => changed("theme"));
}

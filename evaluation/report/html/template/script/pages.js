// A cache's page: its facts on top, only its rows and curves, and pale points of other caches.
const title = document.title;

function openPage() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const article = target?.closest("article") ?? null;
  const before = state.cache;
  findAll("#scope article").forEach((old) => {
    const next = findAll("#articles article").find((other) => order(other) > order(old));
    find("#articles").insertBefore(old, next ?? null);
  });
  // Links to sections (#table) do not change the open page.
  if (target && !article) {
    if (before !== null) find("#scope").append(findAll("#articles article").find((one) => one.dataset.cache === before));
    return;
  }
  state.cache = article?.dataset.cache ?? null;
  find(".back").hidden = article === null;
  find("#caches").hidden = article !== null;
  document.title = article ? `${state.cache} - ${title}` : title;
  if (article) find("#scope").append(article);
  if (before !== state.cache) changed("page");
  if (article) {
    article.focus({ preventScroll: true });
    scrollTo({ top: 0, behavior: "instant" });
  }
}

const articles = findAll("#articles article");
const order = (article) => articles.indexOf(article);

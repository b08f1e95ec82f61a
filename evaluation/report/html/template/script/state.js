// What the reader has chosen, and which runs that leaves.
const state = {
  measure: data.measures[0],
  cache: null, // whose page is open
  theirs: false,
  words: [],
  hidden: {}, // per filter, the values that are not shown
};

const passes = (row) =>
  Object.entries(state.hidden).every(([key, values]) => !values.has(row[key] ?? ""));

const texts = data.rows.map((_, number) => find(`#run-${number}`).textContent.toLowerCase());
const searched = (number) => state.words.every((word) => texts[number].includes(word));

// Numbers of the runs that pass the filters.
const filtered = () =>
  data.rows.map((_, number) => number).filter((number) => passes(data.rows[number]) && searched(number));

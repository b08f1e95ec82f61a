// The reader's choices, and the runs that pass them.
const state = {
  measure: data.measures[0],
  cache: null, // of the open page
  theirs: false,
  words: [],
  hidden: {}, // hidden values by filter
};

const passes = (row) =>
  Object.entries(state.hidden).every(([key, values]) => !values.has(row[key] ?? ""));

const texts = data.rows.map((_, number) => find(`#run-${number}`).textContent.toLowerCase());
const searched = (number) => state.words.every((word) => texts[number].includes(word));

// Numbers of the runs that pass the filters.
const filtered = () =>
  data.rows.map((_, number) => number).filter((number) => passes(data.rows[number]) && searched(number));

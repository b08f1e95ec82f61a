// Shared by all scripts of a page: data, finding and creating elements, change events.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector, within = document) => within.querySelector(selector);
const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];

const onChange = []; // called after every change, with what changed
const changed = (what) => onChange.forEach((call) => call(what));

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

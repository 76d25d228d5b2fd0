// Loads panels by name.  An exported page has another module in its place.

export function load(name) {
  return import(`./${name}.js`);
}

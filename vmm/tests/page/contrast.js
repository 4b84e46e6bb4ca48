// The colours of all text, and of what is behind it. Runs in the page.
const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
  }
  return [255, 255, 255];
};
const pairs = new Map();
for (const state of [null, "switch0", "nvme4"]) {
  const row = state && [...document.querySelectorAll("li.row")].find((other) => other.dataset.id === state);
  if (row) row.focus();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !element.getClientRects().length) continue;
    const [text, paper] = [parse(getComputedStyle(element).color).slice(0, 3), behind(element)];
    pairs.set(`${text} on ${paper}`, { text, paper, where: `${element.tagName}.${element.className}` });
  }
}
const bars = new Set();
for (const element of document.querySelectorAll(".swatch, .strip-bar i")) {
  const colour = parse(getComputedStyle(element).backgroundColor);
  if (colour.length < 4) bars.add(JSON.stringify({ bar: colour, where: element.className }));
}
return {
  paper: behind(document.body),
  pairs: [...pairs.values()],
  bars: [...bars].map((bar) => JSON.parse(bar)),
};

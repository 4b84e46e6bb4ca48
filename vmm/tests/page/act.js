// What a reader does with keys and pointer, and what comes of it. Runs in the page.
const press = (key) => {
  const target = document.activeElement || document.body;
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
};
const timeline = document.querySelector(".timeline");
const rows = [...timeline.querySelectorAll("li.row")];
const details = timeline.querySelector(".details");
const focused = () => document.activeElement.dataset.id || null;
const row = (id) => rows.find((other) => other.dataset.id === id);
const after = (key) => {
  press(key);
  return focused();
};
const found = {};

found.before = details.textContent;
rows[0].focus();
found.first = focused();
found.down = after("ArrowDown");
found.inTabOrder = rows.filter((other) => other.tabIndex === 0).map((other) => other.dataset.id);
found.up = after("ArrowUp");
found.end = after("End");
found.home = after("Home");
found.right = after("ArrowRight");
found.left = after("ArrowLeft");

row("switch0").focus();
found.details = details.textContent;
found.related = [...timeline.querySelectorAll(".row.related")].map((other) => other.dataset.id);
found.holder = [...timeline.querySelectorAll(".row.holder")].map((other) => other.dataset.id);
const arrow = timeline.querySelector(".pointer").getBoundingClientRect();
const center = (element) => (element.getBoundingClientRect().top + element.getBoundingClientRect().bottom) / 2;
found.arrow = [arrow.top - center(row("switch0")), arrow.bottom - center(row(found.holder[0]))];
found.heldUpBy = after("h");
found.critical = after("c");

// Held details stay when the pointer goes elsewhere.
row("nvme1").focus();
press("Enter");
found.selected = row("nvme1").getAttribute("aria-selected");
row("nvme2").dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
found.held = details.querySelector("h4").textContent;
press("Escape");
row("nvme2").dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
found.hovered = details.querySelector("h4").textContent;

// Zoom, and back.
const width = () => row("nvme1").querySelector(".host .bar").getBoundingClientRect().width;
found.widths = [width()];
press("z");
found.widths.push(width());
press("0");
found.widths.push(width());

// A pixel is as long on both sides with one scale.
const perPixel = () => ["guest", "host"].map((side) => {
  const lane = timeline.querySelector(`.ticks .${side}`);
  return (Number(lane.dataset.to) - Number(lane.dataset.from)) / lane.clientWidth;
});
found.twoScales = perPixel();
press("s");
found.oneScale = perPixel();
press("s");

const dialog = document.getElementById("keys");
press("?");
found.help = dialog.open;
dialog.close();

const table = document.querySelector("table[id]");
const took = [...table.tHead.rows[0].cells].find((cell) => cell.textContent.trim() === "Took");
const times = () => [...table.tBodies[0].rows].map((line) => Number(line.cells[took.cellIndex].dataset.ns));
took.querySelector("button").click();
found.ascending = times();
found.sorted = took.getAttribute("aria-sort");
took.querySelector("button").click();
found.descending = times();
row("nvme1").focus();
press("t");
found.line = table.querySelector("tr.current th").textContent;
return found;

// The whole page: all timelines, sorting, copying, colours, and the keys that no row has taken.

const timelines = [...document.querySelectorAll(".timeline")].map((element) => new Timeline(element));

// The timeline that keys act on: the one with the focus, else the first that is in view.
const current = () => timelines.find((timeline) => timeline.focused())
  || timelines.find((timeline) => timeline.element.getBoundingClientRect().bottom > 120) || timelines[0];

const sort = (button) => {
  const head = button.closest("th");
  const table = head.closest("table");
  const column = head.cellIndex;
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.ns === undefined ? cell.textContent : Number(cell.dataset.ns);
  };
  const compare = (one, other) => (typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true }));
  const rows = [...table.tBodies[0].rows].sort((one, other) => (up ? 1 : -1) * compare(key(one), key(other)));
  table.tBodies[0].append(...rows);
};

const tsv = (table) => [...table.rows].map((row) => [...row.cells]
  .map((cell) => cell.dataset.ns ?? cell.textContent.trim().replace(/\s+/g, " ")).join("\t")).join("\n");

const copy = async (button, text) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Not every browser lets a file use the clipboard.
    const area = document.body.appendChild(make("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1200);
};

const themes = ["system", "light", "dark"];
const actions = {
  theme: (button) => {
    const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    button.textContent = `Theme: ${next}`;
  },
  keys: () => document.getElementById("keys").showModal(),
  "zoom-in": (button) => of(button).zoomBy(0.5),
  "zoom-out": (button) => of(button).zoomBy(2),
  "zoom-all": (button) => of(button).axis.zoomAll(),
  scale: (button) => of(button).scale(),
};
const of = (button) => timelines.find((timeline) => timeline.element.contains(button));

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { do: action, copy: text, copyTable: table } = button.dataset;
  if (action) actions[action](button);
  else if (text) copy(button, document.getElementById(text).textContent);
  else if (table) copy(button, tsv(document.getElementById(table)));
  else if (button.closest("thead")) sort(button);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const timeline = current();
  const sections = [...document.querySelectorAll("section.teardown")];
  const next = (by) => {
    const tops = sections.map((section) => section.getBoundingClientRect().top);
    const here = tops.filter((top) => top < 10).length - 1;
    const section = sections[Math.min(Math.max(here + by, 0), sections.length - 1)];
    if (section) section.scrollIntoView();
  };
  const keys = {
    "?": () => actions.keys(),
    "+": () => timeline && timeline.zoomBy(0.5),
    "=": () => timeline && timeline.zoomBy(0.5),
    "-": () => timeline && timeline.zoomBy(2),
    "0": () => timeline && timeline.axis.zoomAll(),
    s: () => timeline && timeline.scale(),
    n: () => next(1),
    p: () => next(-1),
  };
  if (!keys[event.key]) return;
  keys[event.key]();
  event.preventDefault();
});

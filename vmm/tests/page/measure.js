// Where everything on the page is. Runs in the page; what it returns goes to the test.
const box = (element) => {
  if (!element) return null;
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return { left, right, top, bottom };
};
// Where the text itself is, which may be more than its element has room for.
const textBox = (element) => {
  if (!element || !element.textContent || !element.getClientRects().length) return null;
  const range = document.createRange();
  range.selectNodeContents(element);
  return { ...box(range), cut: element.scrollWidth > element.clientWidth + 1 };
};
// A lane's inside: a bar at 0 begins behind its border.
const side = (lane) => {
  const outer = lane.getBoundingClientRect();
  const ticks = [...lane.querySelectorAll("b")].map((tick) => ({ text: tick.textContent, ...box(tick) }));
  return {
    left: outer.left + lane.clientLeft,
    width: lane.clientWidth,
    from: Number(lane.dataset.from),
    to: Number(lane.dataset.to),
    unit: lane.querySelector("em").textContent,
    ticks,
  };
};
const timelines = [...document.querySelectorAll(".timeline")].map((timeline) => {
  const lane = (name) => timeline.querySelector(`.ticks .lane.${name}`);
  return {
    guest: lane("guest") && side(lane("guest")),
    host: side(lane("host")),
    rows: [...timeline.querySelectorAll("li.row")].map((row) => ({
      id: row.dataset.id,
      row: box(row),
      name: textBox(row.querySelector(".id")),
      class: textBox(row.querySelector(".class")),
      took: textBox(row.querySelector(".took")),
      bar: box(row.querySelector(".host .bar")),
      handshake: box(row.querySelector(".handshake")),
      guestLane: box(row.querySelector(".lane.guest")),
      hostLane: box(row.querySelector(".lane.host")),
    })),
  };
});
const chart = [...document.querySelectorAll(".chart li a")].map((bar) => ({
  who: textBox(bar.querySelector(".who")),
  stack: box(bar.querySelector(".stack")),
  teardown: box(bar.querySelector("i.teardown")),
  total: textBox(bar.querySelector(".total")),
}));
// In the midst of a long list, its head and its details stay in view.
const first = document.querySelector(".timeline");
const last = first.querySelector("li.row:last-child");
last.previousElementSibling.focus({ preventScroll: true });
scrollTo(0, scrollY + (first.getBoundingClientRect().top + last.getBoundingClientRect().top) / 2);
const stuck = { head: box(first.querySelector(".axis")), details: box(first.querySelector(".details")) };
return {
  height: innerHeight,
  chart,
  stuck,
  viewport: innerWidth,
  page: document.documentElement.scrollWidth,
  tiles: [...document.querySelectorAll(".figures dd")].map((tile) => ({ text: tile.textContent, ...textBox(tile) })),
  timelines,
};

// The axis of a timeline: its ticks, and the part of each side that is shown.

// Round steps, as the ticks without script have them.
const step = (length, most) => {
  for (let power = 1; ; power *= 10) {
    for (const factor of [1, 2, 5]) if (length / (factor * power) <= most) return factor * power;
  }
};

class Axis {
  constructor(element) {
    this.element = element;
    this.ranges = { guest: [0, 1], host: [0, 1] };
    for (const ticks of element.querySelectorAll(".ticks .lane")) this.draggable(ticks);
    this.draw();
    new ResizeObserver(() => this.draw()).observe(element.querySelector(".ticks"));
  }

  // Shows the part of a side between two fractions of it.
  zoom(side, from, to) {
    const length = Math.min(1, Math.max(to - from, 1e-6));
    const start = Math.min(Math.max(from, 0), 1 - length);
    this.ranges[side] = [start, start + length];
    const letter = side[0];
    this.element.style.setProperty(`--${letter}a`, start.toFixed(9));
    this.element.style.setProperty(`--${letter}b`, (start + length).toFixed(9));
    this.draw();
  }

  zoomAll() {
    this.zoom("guest", 0, 1);
    this.zoom("host", 0, 1);
  }

  draggable(ticks) {
    const side = ticks.classList.contains("guest") ? "guest" : "host";
    const fraction = (event) => {
      const box = ticks.getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    };
    let begin = null;
    let chosen = null;
    ticks.addEventListener("pointerdown", (event) => {
      begin = fraction(event);
      chosen = ticks.appendChild(make("span", { class: "chosen" }));
      ticks.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    ticks.addEventListener("pointermove", (event) => {
      if (begin === null) return;
      const at = fraction(event);
      chosen.style.left = `${Math.min(begin, at) * 100}%`;
      chosen.style.width = `${Math.abs(at - begin) * 100}%`;
    });
    const end = (event) => {
      if (begin === null) return;
      const [a, b] = [begin, fraction(event)].sort((one, other) => one - other);
      begin = null;
      chosen.remove();
      const [from, to] = this.ranges[side];
      if (event.type === "pointerup" && b - a > 0.01) this.zoom(side, from + a * (to - from), from + b * (to - from));
    };
    ticks.addEventListener("pointerup", end);
    ticks.addEventListener("pointercancel", end);
    ticks.addEventListener("dblclick", () => this.zoom(side, 0, 1));
  }

  // As many ticks as there is room for, from the part of each side that is shown.
  draw() {
    for (const lane of this.element.querySelectorAll(".ticks .lane")) {
      const side = lane.classList.contains("guest") ? "guest" : "host";
      const [whole, end] = [Number(lane.dataset.from), Number(lane.dataset.to)];
      const [a, b] = this.ranges[side];
      const [from, to] = [whole + a * (end - whole), whole + b * (end - whole)];
      const width = lane.getBoundingClientRect().width;
      const by = step(to - from, Math.max(2, Math.floor(width / 58)));
      const unit = by < 1e5 ? [1e3, "µs"] : [1e6, "ms"];
      const ticks = [];
      const lines = [];
      for (let tick = Math.ceil(from / by); tick * by <= to; tick += 1) {
        const at = tick * by;
        const place = `--s:${((at - whole) / (end - whole)).toFixed(9)}`;
        lines.push(make("u", { style: place }));
        const figure = Number((Math.abs(at) / unit[0]).toPrecision(12)).toString().split(".");
        const label = `${at < 0 ? "−" : ""}${grouped(figure[0])}${figure[1] ? `.${figure[1]}` : ""}`;
        // A label that would leave its side stands over the other one's.
        const x = ((at - from) / (to - from)) * width;
        const half = label.length * 3.6;
        const fits = side === "guest" ? x >= half && x <= width - half - 24 : x <= width + 20 && (at === 0 || x >= half + 2);
        if (fits) ticks.push(make("b", { style: place }, label));
      }
      lane.replaceChildren(...ticks, make("em", null, unit[1]));
      const grid = this.element.querySelector(`.grid .${side}`);
      for (const line of grid.querySelectorAll("u")) line.remove();
      grid.prepend(...lines);
    }
  }
}

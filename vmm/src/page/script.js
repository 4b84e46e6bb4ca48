"use strict";
// Details, keys, zoom, sorting and copying. Without it the page shows the same, and prints.
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  const shown = (ns) => {
    const size = Math.abs(ns);
    const text = size < 1e6 ? `${(size / 1e3).toFixed(1)} µs`
      : `${(size / 1e6).toFixed(1).replace(/\B(?=(\d{3})+(?!\d))/g, ",")} ms`;
    return ns < 0 ? `−${text}` : text;
  };

  // Makes an element. Text is only ever set as text: a report's errors and warnings are anybody's.
  const make = (name, attributes, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const time = (ns) => make("data", { value: ns, title: `${ns < 0 ? "−" : ""}${grouped(Math.abs(ns))} ns` }, shown(ns));

  // Round steps, as the ticks without script have them.
  const step = (length, most) => {
    for (let power = 1; ; power *= 10) {
      for (const factor of [1, 2, 5]) if (length / (factor * power) <= most) return factor * power;
    }
  };

  class Timeline {
    constructor(element) {
      this.element = element;
      this.report = JSON.parse(document.getElementById(element.dataset.report).textContent);
      this.rows = [...element.querySelectorAll(".row")];
      this.byId = new Map(this.rows.map((row) => [row.dataset.id, row]));
      this.guests = new Map(((this.report.guest || {}).devices || []).map((device) => [device.id, device]));
      this.details = element.querySelector(".details");
      this.hint = [...this.details.childNodes];
      this.ranges = { guest: [0, 1], host: [0, 1] };
      this.held = null;
      this.shares = [element.style.getPropertyValue("--g"), element.style.getPropertyValue("--h")];
      this.pointer = element.querySelector(".grid .host").appendChild(make("i", { class: "pointer", hidden: "" }));
      const list = element.querySelector("ol");
      list.addEventListener("pointerover", (event) => this.show(this.held || event.target.closest(".row")));
      list.addEventListener("pointerleave", () => this.show(this.held || this.focused()));
      list.addEventListener("focusin", (event) => this.focus(event.target.closest(".row")));
      list.addEventListener("click", (event) => this.go(event.target.closest(".row")));
      list.addEventListener("keydown", (event) => this.key(event));
      for (const ticks of element.querySelectorAll(".ticks .lane")) this.draggable(ticks);
      this.drawTicks();
      new ResizeObserver(() => this.drawTicks()).observe(element.querySelector(".ticks"));
    }

    device(row) {
      return row && row.dataset.device !== undefined ? this.report.devices[row.dataset.device] : null;
    }

    focused() {
      const row = document.activeElement && document.activeElement.closest(".row");
      return row && this.element.contains(row) ? row : null;
    }

    focus(row) {
      if (!row) return;
      for (const other of this.rows) other.tabIndex = other === row ? 0 : -1;
      if (this.held && this.held !== row) this.hold(null);
      this.show(row);
    }

    go(row) {
      if (row) row.focus();
    }

    hold(row) {
      if (this.held) this.held.removeAttribute("aria-selected");
      this.held = row;
      if (row) row.setAttribute("aria-selected", "true");
    }

    // Shows a device's details, and which devices it waited for.
    show(row) {
      for (const other of this.element.querySelectorAll(".row.current, .row.related, .row.holder")) {
        other.classList.remove("current", "related", "holder");
      }
      this.pointer.hidden = true;
      if (!row) {
        this.details.replaceChildren(...this.hint);
        return;
      }
      row.classList.add("current");
      const device = this.device(row);
      this.describe(row, device);
      if (!device) return;
      for (const id of device.waited_on) {
        if (this.byId.has(id)) this.byId.get(id).classList.add("related");
      }
      const holder = device.held_up_by && this.byId.get(device.held_up_by);
      if (!holder) return;
      holder.classList.add("related", "holder");
      const [from, to] = [this.rows.indexOf(holder), this.rows.indexOf(row)];
      const bar = holder.querySelector(".host .bar");
      if (!bar) return;
      this.pointer.style.setProperty("--s", bar.style.getPropertyValue("--e"));
      this.pointer.style.setProperty("--top", Math.min(from, to));
      this.pointer.style.setProperty("--rows", Math.abs(to - from));
      this.pointer.className = `pointer ${to > from ? "down" : "up"}`;
      this.pointer.hidden = false;
    }

    describe(row, device) {
      const guest = this.guests.get(row.dataset.id);
      const list = (lines) => {
        const dl = make("dl");
        for (const [name, value] of lines) {
          if (value !== null && value !== undefined && value !== "") dl.append(make("dt", null, name), make("dd", null, value));
        }
        return dl;
      };
      const columns = make("div", { class: "columns" });
      const add = (...lists) => columns.append(...lists.filter((dl) => dl.childElementCount > 0));
      const place = device || guest;
      const note = [place.class, place.address].filter(Boolean).join(" · ");
      if (device) {
        const fate = { done: "done", failed: `failed: ${device.outcome.error}`, "timed-out": "given up at its deadline", removed: "removed before its turn" };
        const others = (ids) => (ids.length > 6 ? `${ids.slice(0, 6).join(", ")} and ${ids.length - 6} more` : ids.join(", "));
        add(
          list([["ready", time(device.ready_ns)], ["start", time(device.start_ns)], ["end", time(device.end_ns)], ["took", time(device.end_ns - device.start_ns)]]),
          list(device.phases.map((phase) => [phase.name, time(phase.end_ns - phase.start_ns)])),
          list([
            ["held up by", device.held_up_by || "nobody"],
            ["waited for", others(device.waited_on) || (device.held_up_by ? "" : "nobody")],
            ["supplier", others(device.suppliers)],
            ["cookie", device.cookie && `${device.cookie}${device.waited_for_cookie ? `, after all up to ${device.waited_for_cookie}` : ""}`],
            ["called", `${device.async ? "asynchronously" : "synchronously"}${device.parent_lock ? ", parent locked" : ""}`],
            ["outcome", fate[device.outcome.result] + (device.critical ? "; on the critical path" : "")],
          ]),
        );
      }
      if (guest) {
        const handshake = guest.handshake;
        const lines = handshake ? [
          ["SHN written", time(handshake.requested_ns)],
          ["SHST 10b", handshake.completed_ns === null ? "not before the reset" : time(handshake.completed_ns)],
          ["handshake", handshake.completed_ns === null ? null : time(handshake.completed_ns - handshake.requested_ns)],
          ["seen", handshake.seen_ns === null ? null : time(handshake.seen_ns)],
          ["polls", grouped(handshake.polls)],
        ] : guest.events.map((event) => [event.act.replaceAll("-", " "), make("span", null, `${event.count} ×, last `, time(event.last_ns))]);
        add(list(lines));
      }
      this.details.classList.add("open");
      this.details.replaceChildren(make("h4", null, row.dataset.id, " ", make("small", null, note)), columns);
    }

    key(event) {
      const row = event.target.closest(".row");
      if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
      const index = this.rows.indexOf(row);
      const level = (other) => Number(other.getAttribute("aria-level"));
      const device = this.device(row);
      const actions = {
        ArrowDown: () => this.go(this.rows[index + 1]),
        ArrowUp: () => this.go(this.rows[index - 1]),
        Home: () => this.go(this.rows[0]),
        End: () => this.go(this.rows[this.rows.length - 1]),
        ArrowLeft: () => this.go(this.rows.slice(0, index).reverse().find((other) => level(other) < level(row))),
        ArrowRight: () => this.go(this.rows[index + 1] && level(this.rows[index + 1]) > level(row) ? this.rows[index + 1] : null),
        Enter: () => { this.hold(this.held === row ? null : row); this.show(row); },
        Escape: () => { this.hold(null); this.show(row); },
        h: () => this.go(device && this.byId.get(device.held_up_by)),
        c: () => {
          const critical = this.rows.filter((other) => other.classList.contains("critical"));
          this.go(critical.find((other) => this.rows.indexOf(other) > index) || critical[0]);
        },
        t: () => this.toTable(row),
        z: () => this.zoomTo(row),
      };
      actions[" "] = actions.Enter;
      if (!actions[event.key]) return;
      actions[event.key]();
      event.preventDefault();
      event.stopPropagation();
    }

    toTable(row) {
      const table = document.getElementById(this.element.dataset.table);
      for (const line of table.tBodies[0].rows) {
        const here = row.dataset.device !== undefined && line.dataset.device === row.dataset.device;
        line.classList.toggle("current", here);
        if (!here) continue;
        line.tabIndex = -1;
        line.focus({ preventScroll: true });
        line.scrollIntoView({ block: "center" });
      }
    }

    zoomTo(row) {
      const bar = row.querySelector(".host .bar");
      if (!bar) return;
      const [s, e] = ["--s", "--e"].map((name) => Number(bar.style.getPropertyValue(name)));
      const room = Math.max((e - s) * 0.04, 1e-5);
      this.zoom("host", s - room, e + room);
    }

    // Shows the part of a side between two fractions of it.
    zoom(side, from, to) {
      const length = Math.min(1, Math.max(to - from, 1e-6));
      const start = Math.min(Math.max(from, 0), 1 - length);
      this.ranges[side] = [start, start + length];
      const letter = side[0];
      this.element.style.setProperty(`--${letter}a`, start.toFixed(9));
      this.element.style.setProperty(`--${letter}b`, (start + length).toFixed(9));
      this.drawTicks();
    }

    zoomBy(factor) {
      const [from, to] = this.ranges.host;
      const bar = (this.held || this.focused() || this.element).querySelector(".row .host .bar, .host .bar");
      const at = bar && this.focused() ? Number(bar.style.getPropertyValue("--s")) : (from + to) / 2;
      const middle = Math.min(Math.max(at, from), to);
      this.zoom("host", middle - (middle - from) * factor, middle + (to - middle) * factor);
    }

    zoomAll() {
      this.zoom("guest", 0, 1);
      this.zoom("host", 0, 1);
    }

    // One scale for both sides, or the shares that keep both readable.
    scale() {
      const button = this.element.querySelector('[data-do="scale"]');
      if (!button) return;
      const one = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", one);
      const [g, h] = one ? this.element.dataset.one.split(" ") : this.shares;
      this.element.style.setProperty("--g", g);
      this.element.style.setProperty("--h", h);
      this.element.querySelector(".scales").style.visibility = one ? "hidden" : "";
      this.zoomAll();
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
    drawTicks() {
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
    "zoom-all": (button) => of(button).zoomAll(),
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
      "0": () => timeline && timeline.zoomAll(),
      s: () => timeline && timeline.scale(),
      n: () => next(1),
      p: () => next(-1),
    };
    if (!keys[event.key]) return;
    keys[event.key]();
    event.preventDefault();
  });
})();

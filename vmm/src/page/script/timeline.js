// A timeline: its keys, what a reader points at, and which devices that one waited for.

class Timeline {
  constructor(element) {
    this.element = element;
    this.report = JSON.parse(document.getElementById(element.dataset.report).textContent);
    this.rows = [...element.querySelectorAll(".row")];
    this.byId = new Map(this.rows.map((row) => [row.dataset.id, row]));
    this.guests = new Map(((this.report.guest || {}).devices || []).map((device) => [device.id, device]));
    this.details = element.querySelector(".details");
    this.hint = [...this.details.childNodes];
    this.axis = new Axis(element);
    this.held = null;
    this.shares = [element.style.getPropertyValue("--g"), element.style.getPropertyValue("--h")];
    this.pointer = element.querySelector(".grid .host").appendChild(make("i", { class: "pointer", hidden: "" }));
    const list = element.querySelector("ol");
    list.addEventListener("pointerover", (event) => this.show(this.held || event.target.closest(".row")));
    list.addEventListener("pointerleave", () => this.show(this.held || this.focused()));
    list.addEventListener("focusin", (event) => this.focus(event.target.closest(".row")));
    list.addEventListener("click", (event) => this.go(event.target.closest(".row")));
    list.addEventListener("keydown", (event) => this.key(event));
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
    this.details.classList.add("open");
    this.details.replaceChildren(...details(row.dataset.id, device, this.guests.get(row.dataset.id)));
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
    this.axis.zoom("host", s - room, e + room);
  }

  zoomBy(factor) {
    const [from, to] = this.axis.ranges.host;
    const bar = (this.held || this.focused() || this.element).querySelector(".row .host .bar, .host .bar");
    const at = bar && this.focused() ? Number(bar.style.getPropertyValue("--s")) : (from + to) / 2;
    const middle = Math.min(Math.max(at, from), to);
    this.axis.zoom("host", middle - (middle - from) * factor, middle + (to - middle) * factor);
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
    this.axis.zoomAll();
  }
}

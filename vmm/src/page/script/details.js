// Figures as the page shows them, and what is known of a device.

// Shows what only a script can serve.
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

// The elements that describe a device: what the host did to it, and the guest, as far as they did.
const details = (id, device, guest) => {
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
  return [make("h4", null, id, " ", make("small", null, note)), columns];
};

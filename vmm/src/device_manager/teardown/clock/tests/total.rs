//! What the reference's machines take in all, under each policy.

use super::*;

#[test]
fn t11_siblings_overlap() {
    let machine = Machine::new()
        .with_sync("p", "", 0)
        .with_async("a", "p", 9)
        .with_async("b", "p", 9);
    assert_eq!(totals_ms(&machine, TeardownPolicy::ALL), [18, 9, 9]);
}

#[test]
fn t13_nothing_async_goes_as_the_baseline() {
    let mut machine = Machine::new().with_sync("root", "", 1);
    for number in 0..20 {
        machine.add(&format!("d{number}"), "root", false, number);
    }
    let machine = machine.linked("d3", "d17");
    let serial = plan(&machine, Serial);
    assert_eq!(names(&machine, &serial.order)[0], "d3");
    for policy in [Cookie, Completion] {
        let plan = plan(&machine, policy);
        assert_eq!(plan.order, serial.order, "{policy}");
        assert_eq!(plan.devices, serial.devices);
        assert_eq!(plan.workers_used, 0);
    }
}

fn sixteen_drives(with_children: bool) -> Machine {
    let mut machine = Machine::new();
    for number in 0..16 {
        machine.add(&format!("drive{number}"), "", true, 4500);
        if with_children {
            machine.add(&format!("ns{number}"), &format!("drive{number}"), false, 0);
        }
    }
    machine
}

#[test]
fn t14_sixteen_drives_grouped_take_as_long_as_one() {
    let totals = totals_ms(&sixteen_drives(false), TeardownPolicy::ALL);
    assert_eq!(totals, [72_000, 4500, 4500]);
}

#[test]
fn t15_sixteen_drives_interleaved_with_sync_children_are_serial_under_cookie() {
    let totals = totals_ms(&sixteen_drives(true), TeardownPolicy::ALL);
    assert_eq!(totals, [72_000, 72_000, 4500]);
}

#[test]
fn t15_each_drive_is_held_up_by_the_one_before_under_cookie() {
    let machine = sixteen_drives(true);
    let plan = plan(&machine, Cookie);
    let chain = plan.critical_chain();
    let chain = names(&machine, &chain);
    assert_eq!(chain.len(), 32);
    assert_eq!(chain[..3], ["ns15", "drive15", "ns14"]);
    assert_eq!(chain.last(), Some(&"drive0"));
}

#[test]
fn t16_sync_bridges_in_between_make_it_serial() {
    let mut machine = Machine::new();
    for number in 0..4 {
        let (bridge, drive) = (format!("bridge{number}"), format!("drive{number}"));
        machine.add(&bridge, "", false, 0);
        machine.add(&drive, &bridge, true, 4500);
        machine.add(&format!("ns{number}"), &drive, false, 0);
    }
    let totals = totals_ms(&machine, TeardownPolicy::ALL);
    assert_eq!(totals, [18_000, 18_000, 18_000]);
}

#[test]
fn t17_an_unrelated_slow_sync_device() {
    let machine = Machine::new()
        .with_sync("root", "", 0)
        .with_async("p0", "root", 4500)
        .with_sync("slow", "root", 5000)
        .with_async("p1", "root", 4500)
        .with_sync("x", "root", 3000);
    let totals = totals_ms(&machine, TeardownPolicy::ALL);
    assert_eq!(totals, [17_000, 9500, 8000]);
    // Under cookie the slow device waits for p1, which it has nothing to do with.
    let slow = plan(&machine, Cookie).devices[machine.at("slow")];
    assert_eq!(slow.held_up_by, Some(machine.at("p1")));
}

#[test]
fn t18_a_prefix_barrier_waits_for_whoever_is_older() {
    let machine = Machine::new()
        .with_async("p", "", 1000)
        .with_async("c", "p", 1000)
        .with_async("u", "", 10_000);
    let totals = totals_ms(&machine, TeardownPolicy::ALL);
    assert_eq!(totals, [12_000, 11_000, 10_000]);
    for (policy, held_up_by) in [(Cookie, "u"), (Completion, "c")] {
        let p = plan(&machine, policy).devices[machine.at("p")];
        assert_eq!(p.held_up_by, Some(machine.at(held_up_by)), "{policy}");
    }
}

#[test]
fn t26_five_thousand_devices_on_eight_workers() {
    let mut machine = Machine::new();
    for number in 0..5000 {
        let parent = if number < 50 {
            String::new()
        } else {
            format!("d{}", number % 50)
        };
        let device = machine.add(&format!("d{number}"), &parent, true, 0);
        machine.costs[device] = Cost::work(Duration::from_millis(1));
    }
    for policy in [Cookie, Completion] {
        let plan = predict(&machine.graph, policy, &machine.costs, 8);
        assert_eq!(plan.workers_used, 8, "{policy}");
        assert_eq!(plan.total.as_millis(), 5000 / 8, "{policy}");
    }
}

//! How many threads there are, and what each does.

use super::*;

#[test]
fn t13_nothing_async_makes_no_thread() {
    for policy in [Serial, Completion] {
        let mut machine = drives(
            8,
            Cost {
                work: ms(1),
                latency: ms(2),
            },
        );
        for number in 0..4 {
            machine.add(&format!("legacy{number}"), "", false, 1);
        }
        if policy == Completion {
            let mut sync = Machine::new();
            for (node, cost) in machine.graph.nodes().iter().zip(&machine.costs) {
                sync.graph
                    .add(Node {
                        asynchronous: false,
                        ..node.clone()
                    })
                    .unwrap();
                sync.costs.push(*cost);
            }
            machine = sync;
        }
        let ran = run(machine, policy, 64);
        assert_eq!(ran.check(), Ok(()));
        assert_eq!(
            (ran.made, ran.model.threads(), ran.run.workers_used),
            (0, 1, 0)
        );
    }
}

#[test]
fn t21_a_thread_that_cannot_be_made_is_done_without() {
    for threads in 0..12 {
        let mut machine = drives(
            12,
            Cost {
                work: ms(2),
                latency: ms(1),
            },
        );
        machine.add("rtc", "", false, 1);
        let model = Model::of(&machine);
        let ran = run_model(machine, model, Completion, 64, threads);
        assert_eq!(ran.check(), Ok(()), "{threads} threads");
        assert!(ran.run.workers_used as usize <= threads);
        if threads == 0 {
            assert!(
                ran.run.warnings[0].contains("a thread could not be made"),
                "{:?}",
                ran.run.warnings
            );
            assert_eq!(ran.model.threads(), 1);
        }
    }
}

#[test]
fn timers_hold_no_threads() {
    let ran = run(drives(512, Cost::latency(ms(100))), Completion, 16);
    assert_eq!(ran.check(), Ok(()));
    assert!(ran.made <= 16 && ran.run.workers_used <= 16);
    assert!(ran.took() < ms(1000), "{:?}", ran.took());
}

#[test]
fn a_call_that_does_not_block_needs_no_worker() {
    let mut machine = Machine::new();
    for number in 0..32 {
        let node = Node {
            asynchronous: true,
            blocking: false,
            ..Node::new(format!("d{number}"), "test")
        };
        machine.graph.add(node).unwrap();
        machine.costs.push(Cost::latency(ms(30)));
    }
    let ran = run(machine, Completion, 64);
    assert_eq!((ran.made, ran.model.threads()), (0, 1));
    assert!(ran.took() < ms(500));
}

#[test]
fn the_bound_on_workers_is_kept() {
    for workers in [0, 1, 3] {
        let ran = run(drives(9, Cost::work(ms(4))), Completion, workers);
        assert_eq!(ran.check(), Ok(()));
        let bound = usize::from(workers.max(1));
        assert!(ran.made <= bound && ran.model.peak.load(Ordering::SeqCst) <= bound);
        assert_eq!(usize::from(ran.run.workers_used), bound);
    }
}

#[test]
fn timers_go_on_while_the_calling_thread_blocks() {
    let mut machine = Machine::new()
        .with_async("port", "", 20)
        .with_async("drive", "port", 20);
    let slow = machine.graph.add(Node {
        deadline: 2 * PATIENCE,
        ..Node::new("slow", "test")
    });
    let slow = slow.unwrap();
    machine.costs.push(Cost::default());
    // The calling thread is in this one until both have ended.
    let ear = Arc::new(Ear::default());
    let heard = Arc::new(Mutex::new(None));
    let (theirs, told) = (Arc::clone(&ear), Arc::clone(&heard));
    let mut model = Model::of(&machine);
    model.works(slow, move || {
        *told.lock().unwrap() = theirs.hears_end(0);
    });
    let ran = run_heard(machine, model, ear, Completion, 4, usize::MAX);
    assert_eq!(ran.check(), Ok(()));
    assert_eq!(*heard.lock().unwrap(), Some(Outcome::Done));
    assert!(ran.run.stamps[0].end <= ran.run.stamps[slow].end);
}

#[test]
fn no_thread_stays() {
    let ours = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.trim() == "sd-soak")
            .count()
    };
    /// Threads under a name of their own, for other tests run beside this one.
    struct Named;
    impl Spawn for Named {
        fn spawn(&self, _name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
            OsThreads.spawn("sd-soak", work)
        }
    }
    for _ in 0..100 {
        let mut machine = drives(
            8,
            Cost {
                work: ms(1),
                latency: Duration::ZERO,
            },
        );
        machine.add("slow", "", false, 0);
        let model = Arc::new(Model::of(&machine));
        let graph = Arc::new(machine.graph);
        let ear = Arc::new(Unobserved);
        Teardown::with_threads(graph, Completion, 8, model, ear, Arc::new(Named)).run();
    }
    let until = Instant::now() + Duration::from_secs(5);
    while ours() > 0 {
        assert!(Instant::now() < until, "{} threads are left", ours());
        thread::sleep(ms(1));
    }
}

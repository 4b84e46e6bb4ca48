//! The engine alone: timers in order, replaced and disarmed; lanes that do not share their fate.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn key(owner: u64) -> TimerKey {
    TimerKey {
        owner,
        kind: TimerKind::Shutdown,
    }
}

#[test]
fn timers_fire_in_order_and_a_key_has_one() {
    let engine = Engine::new(NonZeroUsize::new(1)).unwrap();
    let (tell, told) = channel();
    let now = Instant::now();
    let arm = |owner, ms, what: &'static str| {
        let tell = tell.clone();
        let job = Box::new(move || tell.send(what).unwrap());
        engine.arm(key(owner), now + Duration::from_millis(ms), job);
    };
    arm(1, 40, "second");
    arm(2, 10, "replaced");
    arm(2, 20, "first");
    arm(3, 5, "disarmed");
    engine.disarm(key(3));
    assert_eq!(told.recv_timeout(SOON).unwrap(), "first");
    assert_eq!(told.recv_timeout(SOON).unwrap(), "second");
    assert!(told.try_recv().is_err());
}

#[test]
fn a_stuck_lane_holds_no_other_back() {
    let (stuck, free) = (Lane::new(2), Lane::new(2));
    let (release, held) = channel::<()>();
    let held = Arc::new(Mutex::new(held));
    for _ in 0..8 {
        let held = Arc::clone(&held);
        stuck.submit(Box::new(move || {
            let _ = lock(&held).recv();
        }));
    }
    let (tell, told) = channel();
    free.submit(Box::new(move || tell.send(()).unwrap()));
    told.recv_timeout(SOON).unwrap();
    drop(release);
}

/// Each costs the same, wherever it stands: a reset that had to move the others for each would not end soon.
#[test]
fn hundreds_of_thousands_of_jobs_are_withdrawn_from_the_middle_and_the_others_run_in_order() {
    const JOBS: usize = 400_000;
    let lane = Lane::new(1);
    let (release, held) = channel::<()>();
    let (tell, told) = channel();
    lane.submit(Box::new(move || {
        let _ = held.recv();
    }));
    let first = tell.clone();
    lane.submit(Box::new(move || first.send("first").unwrap()));
    let tickets: Vec<_> = (0..JOBS)
        .map(|_| lane.submit(Box::new(|| panic!("it was withdrawn"))))
        .collect();
    lane.submit(Box::new(move || tell.send("last").unwrap()));
    let (done, withdrawn) = channel();
    let stuck = Arc::clone(&lane);
    thread::spawn(move || {
        let (front, back) = tickets.split_at(JOBS / 2);
        for (one, other) in front.iter().rev().zip(back) {
            stuck.withdraw(*one);
            stuck.withdraw(*other);
        }
        done.send(()).unwrap();
    });
    withdrawn
        .recv_timeout(SOON)
        .expect("all are withdrawn soon");
    assert_eq!(lane.waiting(), 2);
    drop(release);
    assert_eq!(told.recv_timeout(SOON).unwrap(), "first");
    assert_eq!(told.recv_timeout(SOON).unwrap(), "last");
}

#[test]
fn a_queue_with_more_to_do_lets_others_in_between() {
    struct Twice(
        Mutex<u32>,
        std::sync::mpsc::Sender<&'static str>,
        &'static str,
    );
    impl Serve for Twice {
        fn serve(self: Arc<Self>, _: &mut Transfers) -> Turn {
            let mut left = lock(&self.0);
            *left -= 1;
            self.1.send(self.2).unwrap();
            if *left > 0 { Turn::More } else { Turn::Done }
        }
    }
    let engine = Engine::new(NonZeroUsize::new(1)).unwrap();
    let (tell, told) = channel();
    let one = Arc::new(Twice(Mutex::new(2), tell.clone(), "one"));
    engine.schedule(Place::Io(7), one);
    assert_eq!(told.recv_timeout(SOON).unwrap(), "one");
    assert_eq!(told.recv_timeout(SOON).unwrap(), "one");
    let two = Arc::new(Twice(Mutex::new(1), tell, "two"));
    engine.schedule(Place::Control, two);
    assert_eq!(told.recv_timeout(SOON).unwrap(), "two");
}

#[test]
fn without_threads_nothing_happens_but_by_steps() {
    struct Twice(AtomicU64);
    impl Serve for Twice {
        fn serve(self: Arc<Self>, _: &mut Transfers) -> Turn {
            match self.0.fetch_add(1, Ordering::AcqRel) {
                0 => Turn::More,
                _ => Turn::Done,
            }
        }
    }
    let (engine, mut steps) = Engine::stepped(false).unwrap();
    assert!(!engine.has_ring());
    let queue = Arc::new(Twice(AtomicU64::new(0)));
    let jobs = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&jobs);
    engine.schedule(Place::Io(3), Arc::clone(&queue) as Arc<dyn Serve>);
    engine.post(Box::new(move || {
        count.fetch_add(1, Ordering::AcqRel);
    }));
    let done = || {
        (
            queue.0.load(Ordering::Acquire),
            jobs.load(Ordering::Acquire),
        )
    };
    assert_eq!(done(), (0, 0));
    assert!(steps.step(), "the queue has more to do");
    assert_eq!(done(), (1, 1));
    assert!(!steps.step());
    assert!(!steps.step());
    assert_eq!(done(), (2, 1));
    steps.wait().unwrap();
}

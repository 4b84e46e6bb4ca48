//! The event stream.

use super::*;

#[test]
fn events_are_replayed_and_then_followed() {
    let mut bench = Bench::new();
    bench.events.push(EventKind::VmCreated);
    bench.events.push(EventKind::VmBooted { boot: 1 });
    let mut all = bench.client.events(Some(0)).unwrap();
    let mut later = bench.client.events(Some(1)).unwrap();
    let mut live = bench.client.events(None).unwrap();
    let soon = Some(Instant::now() + Duration::from_secs(10));
    assert_eq!(
        all.next_by(soon).unwrap().unwrap().event,
        EventKind::VmCreated
    );
    assert_eq!(all.next_by(soon).unwrap().unwrap().seq, 2);
    assert_eq!(later.next_by(soon).unwrap().unwrap().seq, 2);

    let (log, now) = (
        bench.events.clone(),
        Instant::now() + Duration::from_millis(20),
    );
    assert!(matches!(
        all.next_by(Some(now)),
        Err(ClientError::Timeout { .. })
    ));
    let pusher = thread::spawn(move || {
        for boot in 2..=1000 {
            log.push(EventKind::VmBooted { boot });
        }
    });
    for stream in [&mut all, &mut later, &mut live] {
        for seq in 3..=1001 {
            let event = stream.next_by(soon).unwrap().unwrap();
            assert_eq!(
                (event.seq, event.event),
                (seq, EventKind::VmBooted { boot: seq - 1 })
            );
        }
    }
    pusher.join().unwrap();
    bench.server.take().unwrap().stop();
    assert_eq!(
        all.next_by(soon).unwrap(),
        None,
        "the stream ends with the server"
    );
    assert_eq!(all.seen(), 1001);
}

#[test]
fn a_gap_is_told_of() {
    let bench = Bench::with_log(EventLog::with_capacity(4));
    for boot in 1..=10 {
        bench.events.push(EventKind::VmBooted { boot });
    }
    let lines: Vec<_> = bench
        .client
        .event_lines(Some(2), false)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines.len(), 5);
    let gap: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        (&gap["event"], &gap["reason"], &gap["lost"]),
        (&json!("gap"), &json!("overrun"), &json!(4))
    );
    assert!(lines[1].contains(r#""seq":7"#));
    let mut restarted = bench.client.events(Some(99)).unwrap();
    let first = restarted.next().unwrap().unwrap();
    assert_eq!(
        first.event,
        EventKind::Gap {
            reason: GapReason::Restarted,
            lost: 6
        }
    );
    assert_eq!(restarted.next().unwrap().unwrap().seq, 7);
}

#[test]
fn events_are_sent_to_browsers_too_and_bad_queries_refused() {
    let bench = Bench::new();
    bench.events.push(EventKind::VmCreated);
    let mut stream = UnixStream::connect(&bench.path).unwrap();
    let head = "GET /api/v1/events?since=0&follow=false HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n";
    stream
        .write_all(format!("{head}connection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains("content-type: text/event-stream"),
        "{answer}"
    );
    assert!(answer.contains("id: 1\ndata: {\"seq\":1,"), "{answer}");
    for query in ["since=x", "sinc=1", "follow=maybe"] {
        assert_eq!(
            bench
                .refused(Method::GET, &format!("/events?{query}"), "")
                .0,
            400,
            "{query}"
        );
    }
}

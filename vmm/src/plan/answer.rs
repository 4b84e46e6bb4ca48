//! The answer to `vm.plan`, computed on a thread of its own: the main thread has a machine to run.

use std::sync::mpsc::channel;
use std::thread::Builder;

use api::config::VmConfig;
use api::error::{ApiError, ErrorCode};
use api::request::{Reply, Response};

use crate::device_manager::resets::Resets;

/// Plans for `config` on a short-lived thread, which answers `reply`. `resets` is what the machine knows of its devices
/// and the configuration does not say. Does not block.
pub fn answer(config: VmConfig, resets: Resets, reply: Reply) {
    // The reply follows when there is a thread: what a thread that cannot be made was given is lost.
    let (sender, receiver) = channel::<Reply>();
    let thread = Builder::new().name("plan".to_owned()).spawn(move || {
        if let Ok(reply) = receiver.recv() {
            let plans = super::of_machine(&config, &resets).map_err(ApiError::from);
            reply.send(plans.map(|plans| Response::Plan(Box::new(plans))));
        }
    });
    match thread {
        Ok(_) => {
            // The thread ends after it has received.
            let _ = sender.send(reply);
        }
        Err(error) => reply.send(Err(ApiError::new(
            ErrorCode::Internal,
            "vm.plan: no thread to compute it on could be started",
        )
        .with_cause(error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_comes_from_another_thread() {
        let document = br#"{"payload": {"kernel": "k"}, "pci": [
            {"type": "root-port", "id": "port", "teardown": {"latency": {"kind": "fixed", "ms": 7}}}]}"#;
        let (reply, pending) = Reply::channel();
        answer(
            VmConfig::from_json(document).unwrap(),
            Resets::default(),
            reply,
        );
        let Ok(Response::Plan(plans)) = pending.wait() else {
            panic!("no plan");
        };
        assert_eq!(plans.host.serial_sum_ns, 7_000_000);
    }
}

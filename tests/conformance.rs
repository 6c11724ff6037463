//! WebSocket by the book: every case of a table, at every version it makes sense for, in three segmentations, judged over
//! a real socket through `/t/<topic>`, which echoes.

mod support;

#[path = "conformance/cases.rs"]
mod cases;
#[path = "conformance/compressed.rs"]
mod compressed;
#[path = "conformance/frame.rs"]
mod frame;
#[path = "conformance/peer.rs"]
mod peer;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use cases::Case;
use peer::Segmentation;
use support::Broker;

/// Connections that are busy with cases at a time.
const THREADS: usize = 8;
/// No message of a case is larger.
const MAX_MESSAGE: &str = "16M";

/// Runs all cases of a group, and tells about every one that failed.
fn judge(group: Vec<Case>) {
    let broker = Broker::start(&["--max-message", MAX_MESSAGE, "--max-pending", "64M"]);
    let runs: Vec<_> = group
        .iter()
        .flat_map(|case| case.versions.iter().map(move |version| (case, *version)))
        .flat_map(|(case, version)| Segmentation::of(case).map(move |segmentation| (case, version, segmentation)))
        .collect();
    let next = AtomicU32::new(0);
    let failures = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some((case, version, segmentation)) = runs.get(number as usize) else {
                            return failures;
                        };
                        if let Err(failure) = peer::run(&broker, case, *version, *segmentation, number) {
                            failures.push(format!(
                                "{} (version {version}, {segmentation:?}): {failure}",
                                case.name
                            ));
                        }
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    let summary = format!("{} of {} runs failed", failures.len(), runs.len());
    assert!(failures.is_empty(), "{summary}:\n{}", failures.join("\n"));
    assert!(runs.len() >= group.len(), "every case ran");
    broker.stop();
}

#[test]
fn messages_of_every_length_are_framed() {
    judge(cases::lengths());
}

#[test]
fn pings_are_answered_and_pongs_are_taken() {
    judge(cases::pings());
}

#[test]
fn reserved_bits_and_opcodes_fail_the_connection() {
    judge(cases::reserved());
}

#[test]
fn fragments_make_one_message_and_control_frames_may_stand_between() {
    judge(cases::fragments());
}

#[test]
fn text_is_utf_8_and_nothing_else() {
    judge(cases::utf8());
}

#[test]
fn the_closing_handshake_takes_every_valid_code_and_no_other() {
    judge(cases::closing());
}

#[test]
fn large_messages_come_back_whole_in_any_pieces() {
    judge(cases::large());
}

#[test]
fn compressed_messages_come_back_whatever_was_agreed() {
    for arguments in [&[][..], &["--client-context-takeover"]] {
        let broker = Broker::start(arguments);
        let offers = compressed::offers();
        let failures: Vec<_> = offers
            .iter()
            .enumerate()
            .filter_map(|(number, offer)| Some(format!("{offer}: {}", compressed::run(&broker, offer, number).err()?)))
            .collect();
        let summary = format!("{arguments:?}: {} of {} offers failed", failures.len(), offers.len());
        assert!(failures.is_empty(), "{summary}:\n{}", failures.join("\n"));
    }
}

#[test]
fn a_client_may_refer_to_its_earlier_messages_where_the_broker_says_so() {
    let offer = "permessage-deflate; client_max_window_bits";
    for (arguments, may) in [(&[][..], false), (&["--client-context-takeover"], true)] {
        let agreed = compressed::agreed(&Broker::start(arguments), offer).expect("the offer is valid");
        assert_eq!(!agreed.contains("client_no_context_takeover"), may, "{agreed}");
    }
}

#[test]
fn an_offer_that_is_not_valid_is_passed_over_for_the_next_one() {
    let broker = Broker::start(&[]);
    for offer in compressed::DECLINED {
        assert_eq!(compressed::agreed(&broker, offer), None, "{offer}");
        let next = format!("{offer}, permessage-deflate; server_max_window_bits=10");
        let agreed = compressed::agreed(&broker, &next).expect("the second offer is valid");
        assert!(agreed.contains("server_max_window_bits=10"), "{next}: {agreed}");
    }
}

//! In plain threads: blocking, with a timeout, and by callback.
//!
//! `cargo run -p tidecast-router --example threads`

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tidecast_router::{Hub, Received, RecvTimeoutError, SubscribeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::<String>::new();

    // By callback, in the publisher's thread: for what is short, such as counting.
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let callback = hub.subscribe_with("#", SubscribeOptions::new(), move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    })?;

    // Blocking, in a thread of its own, until the hub is closed.
    let mut orders = hub.subscribe("orders/#", SubscribeOptions::new())?;
    let kitchen = thread::spawn(move || {
        let cooked: Vec<_> = orders
            .iter()
            .filter_map(Received::message)
            .map(|order| format!("{} for {}", *order, order.topic()))
            .collect();
        cooked
    });

    // With a timeout.
    let mut bell = hub.subscribe("bell", SubscribeOptions::new())?;
    let nothing = bell.recv_timeout(Duration::from_millis(10));
    assert!(matches!(nothing, Err(RecvTimeoutError::Timeout)));

    let waiters: Vec<_> = ["table/1", "table/2"]
        .into_iter()
        .map(|table| {
            let hub = hub.clone();
            thread::spawn(move || {
                for dish in ["soup", "fish", "cake"] {
                    hub.publish(&format!("orders/{table}"), dish.to_owned())
                        .expect("a topic");
                }
            })
        })
        .collect();
    for waiter in waiters {
        waiter.join().expect("a waiter does not panic");
    }
    hub.publish("bell", "ding".to_owned())?;
    assert!(bell.recv_timeout(Duration::from_secs(60)).is_ok());

    drop(callback);
    hub.publish("orders/late", "tea".to_owned())?;
    hub.close();
    let cooked = kitchen.join().expect("the kitchen does not panic");
    println!("the kitchen cooked {cooked:#?}");
    assert_eq!(cooked.len(), 7);
    assert_eq!(cooked.last().map(String::as_str), Some("tea for orders/late"));
    assert_eq!(
        count.load(Ordering::Relaxed),
        7,
        "six orders and the bell; the tea came after the callback"
    );
    Ok(())
}

#[test]
fn runs_to_its_end() {
    main().expect("what it shows holds");
}

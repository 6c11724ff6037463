//! Market ticks for a slow screen: of each instrument only the newest price waits.
//!
//! `cargo run -p tidecast-router --example ticks`

use std::collections::HashMap;
use std::error::Error;
use std::thread;

use tidecast_router::{Hub, Overflow, Received, SubscribeOptions};

const INSTRUMENTS: [&str; 3] = ["acme", "globex", "initech"];
const TICKS: u64 = 30_000;

fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::<u64>::new();
    let options = SubscribeOptions::new()
        .capacity(INSTRUMENTS.len())
        .overflow(Overflow::Latest);
    let mut screen = hub.subscribe("ticks/#", options)?;

    let exchange = thread::spawn(move || {
        // Where a topic is published again and again, a publisher of its own is faster.
        let mut publishers = INSTRUMENTS.map(|name| hub.publisher(&format!("ticks/{name}")).expect("a topic"));
        for tick in 0..TICKS {
            publishers[tick as usize % INSTRUMENTS.len()].publish(tick);
        }
        // The last handle closes the hub.
    });

    let mut prices = HashMap::new();
    let (mut shown, mut replaced) = (0, 0);
    for received in screen.iter() {
        match received {
            Received::Message(message) => {
                prices.insert(message.topic().to_owned(), *message);
                shown += 1;
            }
            Received::Lagged(count) => replaced += count,
        }
    }
    exchange.join().expect("the exchange does not panic");

    println!("{shown} ticks shown, {replaced} replaced by newer ones before they were");
    assert_eq!(shown + replaced, TICKS);
    for (index, name) in (0..).zip(INSTRUMENTS) {
        let last = prices[&format!("ticks/{name}")];
        println!("{name}: {last}");
        assert_eq!(last, TICKS - INSTRUMENTS.len() as u64 + index);
    }
    Ok(())
}

#[test]
fn runs_to_its_end() {
    main().expect("what it shows holds");
}

//! A pool of workers that share a subscription: each job goes to one, the one with the least to do.
//!
//! `cargo run -p tidecast-router --example workers`

use std::error::Error;
use std::thread;

use tidecast_router::{Hub, Overflow, Received, Strategy, SubscribeOptions};

const WORKERS: usize = 3;
const JOBS: u64 = 3_000;

fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::<u64>::new();
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let options = SubscribeOptions::new()
            .strategy(Strategy::LeastLoaded)
            // No job may be lost: a worker that falls so far behind is an error.
            .overflow(Overflow::Close)
            .capacity(JOBS as usize);
        let mut jobs = hub.subscribe("$share/pool/jobs/#", options)?;
        workers.push(thread::spawn(move || {
            let done = jobs.iter().filter_map(Received::message).map(|job| collatz(*job));
            done.fold((0_u64, 0_u64), |(jobs, steps), more| (jobs + 1, steps + more))
        }));
    }
    // Somebody else may want to see all of them.
    let mut log = hub.subscribe("jobs/#", SubscribeOptions::new().capacity(JOBS as usize))?;

    for job in 1..=JOBS {
        assert_eq!(hub.publish("jobs/collatz", job)?, 2, "one worker and the log");
    }
    hub.close();

    let mut jobs = 0;
    for worker in workers {
        let (done, steps) = worker.join().expect("a worker does not panic");
        println!("a worker did {done} jobs, {steps} steps");
        jobs += done;
    }
    assert_eq!((jobs, log.iter().count() as u64), (JOBS, JOBS));
    Ok(())
}

/// How many steps it takes from a number to 1.
fn collatz(mut number: u64) -> u64 {
    let mut steps = 0;
    while number != 1 {
        number = if number.is_multiple_of(2) {
            number / 2
        } else {
            3 * number + 1
        };
        steps += 1;
    }
    steps
}

#[test]
fn runs_to_its_end() {
    main().expect("what it shows holds");
}

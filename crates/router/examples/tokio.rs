//! In tokio: a subscription is awaited like anything else, and needs no feature for it.
//!
//! `cargo run -p tidecast-router --example tokio`

use std::error::Error;
use std::time::Duration;

use tidecast_router::{Hub, Received, RecvError, SubscribeOptions};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::<u32>::new();
    let mut tasks = Vec::new();
    for name in ["first", "second"] {
        let mut readings = hub.subscribe("sensor/+/temperature", SubscribeOptions::new())?;
        tasks.push(tokio::spawn(async move {
            let mut sum = 0;
            loop {
                match readings.recv_async().await {
                    Ok(Received::Message(message)) => sum += *message,
                    Ok(Received::Lagged(count)) => panic!("{count} readings were missed"),
                    Err(RecvError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            println!("the {name} task has summed up {sum}");
            sum
        }));
    }

    let mut quiet = hub.subscribe("sensor/cellar/#", SubscribeOptions::new())?;
    for reading in 1..=100 {
        hub.publish(&format!("sensor/{}/temperature", reading % 7), reading)?;
        tokio::task::yield_now().await;
    }
    // Dropping the future, as a timeout does, loses nothing.
    assert!(timeout(Duration::from_millis(10), quiet.recv_async()).await.is_err());
    hub.publish("sensor/cellar/humidity", 60)?;
    let received = timeout(Duration::from_secs(60), quiet.recv_async()).await??;
    assert_eq!(received.message().as_deref(), Some(&60));

    drop(hub);
    for task in tasks {
        assert_eq!(task.await?, 5050);
    }
    Ok(())
}

#[test]
fn runs_to_its_end() {
    main().expect("what it shows holds");
}

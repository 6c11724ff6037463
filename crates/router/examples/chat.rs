//! A chat room: everybody hears everybody, one follows all rooms, and who comes late sees the topic of the room first.
//!
//! `cargo run -p tidecast-router --example chat`

use std::error::Error;

use tidecast_router::{Hub, Received, SubscribeOptions, Subscription};

/// What is said in a room.
#[derive(Debug, PartialEq)]
enum Line {
    Topic(&'static str),
    Says(&'static str, &'static str),
}

fn heard(subscription: &mut Subscription<Line>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Ok(received) = subscription.try_recv() {
        lines.push(match received {
            Received::Message(message) => match message.value() {
                Line::Topic(topic) => format!("{}: today {topic}", message.topic()),
                Line::Says(who, text) => format!("{}: {who} says {text}", message.topic()),
            },
            Received::Lagged(count) => format!("({count} lines were missed)"),
        });
    }
    lines
}

fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::new();
    hub.publish_retained("room/harbour", Line::Topic("the tide"))?;

    let mut ann = hub.subscribe("room/harbour", SubscribeOptions::new())?;
    let mut moderator = hub.subscribe("room/+", SubscribeOptions::new().capacity(2))?;
    hub.publish("room/harbour", Line::Says("bob", "high water at six"))?;
    hub.publish("room/lounge", Line::Says("eve", "is anybody here?"))?;
    let reached = hub.publish("room/harbour", Line::Says("ann", "thank you"))?;
    assert_eq!(reached, 2);

    let ann = heard(&mut ann);
    println!("ann hears\n  {}", ann.join("\n  "));
    assert_eq!(
        ann,
        [
            "room/harbour: today the tide",
            "room/harbour: bob says high water at six",
            "room/harbour: ann says thank you",
        ]
    );
    let moderator = heard(&mut moderator);
    println!(
        "the moderator, who has room for two lines, hears\n  {}",
        moderator.join("\n  ")
    );
    assert_eq!(
        moderator,
        [
            "room/harbour: today the tide",
            "(1 lines were missed)",
            "room/lounge: eve says is anybody here?",
            "room/harbour: ann says thank you",
        ]
    );
    Ok(())
}

#[test]
fn runs_to_its_end() {
    main().expect("what it shows holds");
}

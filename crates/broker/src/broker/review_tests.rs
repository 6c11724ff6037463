use tidecast_wire::close;

use super::super::rights::tests::{filter, grant};
use super::super::tests::{House, limits};
use super::*;
use crate::rules::{Access, BoundsId, Rule, Rules};

/// Sessions of a house with three subscriptions each: to `a/<number>`, to `b/<number>`, and to a share of it.
const SESSIONS: u32 = 100;

/// The first worker's broker is told that these rules hold.
fn begin(house: &mut House, rules: Vec<Rule>) {
    let limits = Limits {
        rules: Arc::new(Rules::new(rules)),
        ..limits()
    };
    house.brokers[0].set_limits(limits, &mut house.outs[0]);
}

/// One turn of the review, in which every session keeps its grant.
fn turn(house: &mut House, steps: usize) {
    house.brokers[0].review(steps, &mut house.outs[0], |_, _, grant| Ok(Arc::clone(grant)));
    house.brokers[0].check();
}

fn full_house() -> (House, Vec<(usize, SessionId)>) {
    let mut house = House::new(1);
    let sessions = (0..SESSIONS).map(|number| {
        let session = house.json_for(0, number, Grant::everything());
        for filter in [
            format!("a/{number}"),
            format!("b/{number}"),
            format!("$share/g/b/{number}"),
        ] {
            house.says(session, &format!(r#"["sub","{filter}"]"#));
        }
        session
    });
    let sessions = sessions.collect();
    (house, sessions)
}

fn nobody(pattern: &str) -> Rule {
    Rule {
        subscribe: Access::Nobody,
        ..Rule::new(filter(pattern))
    }
}

#[test]
fn many_sessions_are_looked_at_in_several_turns_and_all_of_them_in_the_end() {
    let (mut house, sessions) = full_house();
    begin(&mut house, vec![nobody("b/#")]);
    let mut turns = 0;
    let mut before = house.brokers[0].stats().subscriptions;
    while !house.brokers[0].is_reviewed() {
        turn(&mut house, 50);
        let now = house.brokers[0].stats().subscriptions;
        // A session is 8 steps and a subscription 4, so a turn comes to 3 sessions and ends 2 subscriptions of each.
        assert!(before - now <= 2 * 3, "{} ended in one turn", before - now);
        (before, turns) = (now, turns + 1);
    }
    assert!(turns > 20, "{turns}");
    assert_eq!(before, u64::from(SESSIONS));
    for session in sessions {
        let heard = house.heard(session);
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert!(
            heard
                .iter()
                .all(|said| said.contains("b/") && said.contains("has ended"))
        );
        house.says(session, &format!(r#"["pub","a/{}",1]"#, session.1.0));
        assert_eq!(house.heard(session).len(), 1, "what is permitted goes on");
    }
}

#[test]
fn one_step_at_a_time_is_enough_whatever_sessions_do_meanwhile() {
    let (mut house, mut sessions) = full_house();
    begin(&mut house, vec![nobody("b/#")]);
    let mut number = 0;
    while !house.brokers[0].is_reviewed() {
        turn(&mut house, 1);
        // Somebody near where the review is gives something up, takes something else, leaves, or comes.
        let at = number / 4 % sessions.len();
        let session = sessions[at];
        match number % 5 {
            0 => drop(house.says(session, &format!(r#"["unsub","a/{}"]"#, session.1.0))),
            1 => drop(house.says(session, r#"["sub","a/x"]"#)),
            2 => drop(house.says(session, r##"["sub","b/#",{"ref":1}]"##)),
            3 if number % 7 == 0 => {
                house.closes(session);
                house.heard(session);
                sessions[at] = house.json_for(0, session.1.0, Grant::everything());
            }
            _ => drop(house.says(session, &format!(r#"["unsub","$share/g/b/{}"]"#, session.1.0))),
        }
        number += 1;
    }
    for number in 0..SESSIONS {
        let text = format!("b/{number}");
        for (worker, id) in &sessions {
            house.says((*worker, *id), &format!(r#"["unsub","{text}"]"#));
            let heard = house.heard((*worker, *id));
            assert!(heard.last().is_some_and(|said| said.contains("not_found")), "{heard:?}");
        }
    }
}

#[test]
fn a_subscription_has_the_limits_of_the_rules_by_which_it_was_looked_at_last() {
    let mut house = House::new(1);
    let [first, second] = [0, 1].map(|id| house.json_for(0, id, Grant::everything()));
    begin(&mut house, vec![Rule::new(filter("x")), Rule::new(filter("a"))]);
    turn(&mut house, usize::MAX);
    for session in [first, second] {
        house.says(session, r#"["sub","a"]"#);
    }
    let bounds = |house: &mut House| {
        house.says(first, r#"["pub","a",1]"#);
        house.settle();
        [first, second].map(|(_, id)| house.outs[0].bounds[&id])
    };
    let id = |table, number| BoundsId { table, number };
    assert_eq!(bounds(&mut house), [id(1, 2), id(1, 2)]);
    begin(&mut house, vec![Rule::new(filter("a"))]);
    assert_eq!(
        bounds(&mut house),
        [id(1, 2), id(1, 2)],
        "as they were, and known as such"
    );
    // As much as the first session takes.
    turn(&mut house, 9);
    assert_eq!(bounds(&mut house), [id(0, 1), id(1, 2)]);
    turn(&mut house, usize::MAX);
    assert_eq!(bounds(&mut house), [id(0, 1), id(0, 1)]);
    // Other limits with the same rules are no change of these.
    begin(&mut house, vec![Rule::new(filter("a"))]);
    assert_eq!(bounds(&mut house), [id(0, 1), id(0, 1)]);
}

#[test]
fn sessions_get_the_grants_that_are_theirs_now_and_those_without_are_closed() {
    let mut house = House::new(1);
    let sessions = [0, 1, 2].map(|id| house.json_for(0, id, Grant::everything()));
    let raw = house.raw_for(0, 3, ("b", &[]), Grant::everything());
    for session in sessions {
        house.says(session, r#"["sub","a"]"#);
        house.says(session, r#"["sub","b"]"#);
    }
    begin(&mut house, Vec::new());
    let less = Arc::new(grant(&[], &["a"]));
    house.brokers[0].review(usize::MAX, &mut house.outs[0], |_, id, grant| match id {
        SessionId(0) => Ok(Arc::clone(grant)),
        SessionId(1) => Err("it was withdrawn".to_owned()),
        _ => Ok(Arc::clone(&less)),
    });
    assert!(house.brokers[0].is_reviewed());
    assert_eq!(house.heard(sessions[0]), [] as [&str; 0]);
    let withdrawn = (close::UNAUTHORIZED, "it was withdrawn".to_owned());
    assert_eq!(house.outs[0].closed[&sessions[1].1], withdrawn);
    let heard = house.heard(sessions[2]);
    assert!(
        heard.len() == 1 && heard[0].contains(r#"subscription to \"b\" has ended"#),
        "{heard:?}"
    );
    assert_eq!(house.outs[0].closed[&raw.1].0, close::FORBIDDEN);
    house.says(sessions[2], r#"["pub","a",1,{"ref":1}]"#);
    assert!(house.heard(sessions[2])[0].contains("forbidden"));
}

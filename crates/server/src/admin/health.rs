//! Whether the broker lives, and whether clients may be sent to it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::StatusCode;

use super::sampler::INTERVAL;
use super::{Readiness, State};

/// How long a worker may do nothing: a turn of its loop takes milliseconds.
const HANGS: Duration = Duration::from_secs(15);
/// As many beats.
const BEATS: u32 = (HANGS.as_secs() / INTERVAL.as_secs()) as u32;

/// Says that all workers live, or which do not. When the broker stops, workers end one after the other, and the stop has a limit
/// of its own.
pub(crate) async fn alive(Extract(state): Extract<Arc<State>>) -> (StatusCode, String) {
    let hanging = state.heart.lock().silent(BEATS);
    if hanging.is_empty() || state.readiness() == Readiness::Draining {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let numbers: Vec<String> = hanging.iter().map(ToString::to_string).collect();
    let text = format!("workers that do nothing for {HANGS:?}: {}\n", numbers.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

/// Says whether connections are accepted.
pub(crate) async fn ready(Extract(state): Extract<Arc<State>>) -> (StatusCode, String) {
    let readiness = state.readiness();
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        Readiness::Starting | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", readiness.as_str()))
}

#[cfg(test)]
mod tests {
    use tidecast_broker::TopicLimits;
    use tidecast_worker::{Budget, MailboxLimits, Mesh};

    use super::super::{AdminAccess, Parts};
    use super::*;
    use crate::http::tests::runtime;

    #[test]
    fn workers_that_hang_are_named_and_those_that_have_ended_in_a_stop_are_not() {
        let limits = MailboxLimits {
            messages: 1,
            bytes: 1,
            answers: 1,
        };
        // Nobody runs them.
        let (state, _controls) = State::new(Parts {
            cores: vec![None; 2],
            mesh: Arc::new(Mesh::new(2, limits)),
            budget: Arc::new(Budget::new(1)),
            topics: TopicLimits::default(),
            max_message: 1,
            access: AdminAccess::default(),
            counters: vec![Arc::default(), Arc::default()],
        });
        let alive = || runtime().block_on(alive(Extract(Arc::clone(&state))));
        for _ in 0..BEATS {
            assert_eq!(alive().0, StatusCode::OK);
            state.heart.lock().beat();
        }
        assert_eq!(
            alive(),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "workers that do nothing for 15s: 0, 1\n".to_owned()
            )
        );
        state.set_readiness(Readiness::Draining);
        assert_eq!(alive().0, StatusCode::OK);
    }
}

//! What systemd is told, where it is what has started the broker: `sd_notify(3)`.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is told to anybody.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells it something. That it cannot be told is no reason to do anything else: it finds out by itself.
fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// The broker serves.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It reads its configuration again; [`ready`] says that this is over.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It stops, for good.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("saying goodbye to clients")]);
}

/// Another process is the broker from now on.
pub(crate) fn succeeded_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// It lives, and all its workers do.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often it wants to hear that: twice in the time after which it would give the broker up.
pub(crate) fn heartbeat() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

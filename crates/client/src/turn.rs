//! One handshake per address at a time.
//!
//= RFC 6455#section-4.1
//# If multiple connections to the same IP address are attempted by the client simultaneously, the client MUST serialize
//# them so that there is no more than one connection at a time running through the following steps.
//!
//! Whoever has to wait leaves a waker, so threads and tasks wait for each other.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

/// Whose handshakes exclude each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// A server, under whatever name.
    Address(SocketAddr),
    /// What lies behind a proxy.
    ///
    //= RFC 6455#section-4.1
    //# If the client cannot determine the IP address of the remote host (for example, because all communication is being
    //# done through a proxy server that performs DNS queries itself), then the client MUST assume for the purposes of
    //# this step that each host name refers to a distinct remote host
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
    //# then the user agent MUST assume for the purposes of this step that each host name refers to a distinct remote
    //# host
    Name(String, u16),
}

/// Peers with a handshake under way, and who waits for each to end.
type Busy = HashMap<Peer, VecDeque<Waker>>;

static BUSY: LazyLock<Mutex<Busy>> = LazyLock::new(Mutex::default);

fn busy() -> MutexGuard<'static, Busy> {
    // The map is whole between any two statements that change it.
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The permission to have a handshake under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Peer);

impl Turn {
    /// Resolves once no other handshake with `peer` is under way.
    pub(crate) fn wait(peer: Peer) -> Waiting {
        Waiting(peer)
    }

    /// The same for a thread; none if it did not come before `deadline`.
    pub(crate) fn block(peer: Peer, deadline: Instant) -> Option<Turn> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut waiting = pin!(Turn::wait(peer));
        loop {
            if let Poll::Ready(turn) = waiting.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(turn);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            std::thread::park_timeout(left);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // All of them: one that was woken alone may have lost interest, and nobody would wake the next.
        for waker in busy().remove(&self.0).unwrap_or_default() {
            waker.wake();
        }
    }
}

/// The wait for a [`Turn`].
#[derive(Debug)]
pub(crate) struct Waiting(Peer);

impl Future for Waiting {
    type Output = Turn;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turn> {
        let mut busy = busy();
        match busy.get_mut(&self.0) {
            //= RFC 6455#section-4.1
            //# the client MUST wait until that connection has been established or for that connection to have failed.
            //= RFC 6455#section-4.1
            //# There MUST be no more than one connection in a CONNECTING state.
            //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
            //# the user agent MUST wait until that connection has been established or for that connection to have
            //# failed.
            //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
            //# There MUST be no more than one connection in a CONNECTING state.
            //= draft-ietf-hybi-thewebsocketprotocol-07#section-5.1
            //# the user agent MUST serialize them so that there is no more than one connection at a time running
            //# through the following steps.
            Some(waiting) => {
                if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    waiting.push_back(context.waker().clone());
                }
                Poll::Pending
            }
            None => {
                busy.insert(self.0.clone(), VecDeque::new());
                Poll::Ready(Turn(self.0.clone()))
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_second_handshake_with_a_peer_waits_for_the_first_and_one_with_another_does_not() {
        //= RFC 6455#section-4.1
        //= type=test
        //# the client MUST serialize them so that there is no more than one connection at a time running through the
        //# following steps.
        let peer = || Peer::Name("turn.test".into(), 1);
        let first = Turn::block(peer(), soon()).unwrap();
        assert!(Turn::block(peer(), Instant::now()).is_none());
        assert!(Turn::block(Peer::Name("turn.test".into(), 2), Instant::now()).is_some());
        let second = std::thread::spawn(move || Turn::block(peer(), soon()).is_some());
        drop(first);
        assert!(second.join().unwrap());
    }

    #[test]
    fn of_many_threads_one_at_a_time_has_its_turn_and_all_get_one() {
        static INSIDE: AtomicUsize = AtomicUsize::new(0);
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| {
                    for _ in 0..100 {
                        let turn = Turn::block(Peer::Name("turns.test".into(), 1), soon()).expect("a turn in time");
                        assert_eq!(INSIDE.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        INSIDE.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

//! The closing handshake.
//!
//! ```text
//!               our Close                 peer's Close
//!       +------------------> CloseSent -------------------+
//!       |                        |                        v
//!     Open ----------------------|--------------------> Draining
//!       |     peer's Close       | we failed or           |
//!       |     (answered),        | lost patience          | the transport ended,
//!       |     or we failed       +----------------------> | or we lost patience
//!       |                                                 v
//!       +---------------------------------------------> Closed
//!                     the transport ended
//! ```
//!
//! In `CloseSent` the peer's messages are still delivered: it sent them before it could know. In `Draining` nothing
//! is left to be said by either side, but octets may still come (period clients send Pongs and empty deflate blocks
//! after their Close). They are read and dropped until the peer ends the transport: closing a socket with unread
//! octets resets the connection, and a reset can destroy our Close on its way.

/// Where a connection stands in the closing handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No Close yet, in either direction.
    Open,
    /// We sent a Close first and wait for the peer's.
    CloseSent,
    /// Both Closes are exchanged, or the peer failed and was told so. Flush, shut the sending side down, and keep
    /// reading until the peer ends the transport too.
    ///
    //= RFC 6455#section-5.5.1
    //# After both sending and receiving a Close message, an endpoint considers the WebSocket connection closed and MUST
    //# close the underlying TCP connection.
    //= RFC 6455#section-5.5.1
    //# The server MUST close the underlying TCP connection immediately
    Draining,
    /// The transport ended, or was waited for long enough.
    Closed,
}

/// What moves the closing handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// We start the closing handshake.
    ///
    //= RFC 6455#section-7.1.2
    //# an endpoint MUST send a Close control frame, as described in Section 5.5.1, whose status code is set to /code/
    //# and whose close reason is set to /reason/.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-7.1.2
    //# To _start the WebSocket closing handshake_, an endpoint MUST send a Close control frame, as described in Section
    //# 4.5.1.
    //= draft-ietf-hybi-thewebsocketprotocol-06#section-7.1.2
    //# To _start the WebSocket closing handshake_, and endpoint MUST send a Close control frame, as described in
    //# Section 4.5.1.
    CloseSent,
    /// The peer's Close came. If it was the first one, ours went out in answer.
    CloseReceived,
    /// The peer broke the protocol or went silent: no more is read from it.
    ///
    //= RFC 6455#section-7.1.7
    //# To do so, the client MUST _Close the WebSocket Connection_
    //= RFC 6455#section-7.1.7
    //# Similarly, to do so, the server MUST _Close the WebSocket Connection_
    //= RFC 6455#section-7.1.7
    //# An endpoint MUST NOT continue to attempt to process data (including a responding Close frame) from the remote
    //# endpoint after being instructed to _Fail the WebSocket Connection_.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-7.1.4
    //# To do so, the user agent MUST _Close the WebSocket Connection_
    Failed,
    /// The transport ended, or what remained to be read of it is not waited for any longer.
    ///
    //= RFC 6455#section-7.2.1
    //# If at any point the underlying transport layer connection is unexpectedly lost, the client MUST _Fail the
    //# WebSocket Connection_.
    Ended,
}

impl State {
    /// The table of transitions. What is not in it changes nothing.
    pub(crate) fn after(self, step: Step) -> Self {
        match (self, step) {
            (State::Open, Step::CloseSent) => State::CloseSent,
            (State::Open | State::CloseSent, Step::CloseReceived | Step::Failed) => State::Draining,
            (_, Step::Ended) => State::Closed,
            (state, _) => state,
        }
    }

    /// Whether we may still send: nothing follows our Close.
    ///
    //= RFC 6455#section-5.5.1
    //# The application MUST NOT send any more data frames after sending a Close frame.
    //= draft-ietf-hybi-thewebsocketprotocol-07#section-4.5.1
    //# The application MUST NOT send any more data frames after sending a close message.
    //= draft-ietf-hybi-thewebsocketprotocol-06#section-4.5.1
    //# The application MUST NOT send any more data messages after sending a close message.
    //= RFC 6455#section-6.1
    //# The endpoint MUST ensure the WebSocket connection is in the OPEN state
    //= RFC 6455#section-6.1
    //# If at any point the state of the WebSocket connection changes, the endpoint MUST abort the following steps.
    #[must_use]
    pub fn may_send(self) -> bool {
        self == State::Open
    }

    /// Whether what the peer sends still means something.
    pub(crate) fn reads(self) -> bool {
        matches!(self, State::Open | State::CloseSent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 4] = [State::Open, State::CloseSent, State::Draining, State::Closed];
    const STEPS: [Step; 4] = [Step::CloseSent, Step::CloseReceived, Step::Failed, Step::Ended];

    #[test]
    fn the_closing_handshake_never_goes_back() {
        for (rank, state) in STATES.into_iter().enumerate() {
            for step in STEPS {
                let next = STATES.iter().position(|&s| s == state.after(step)).unwrap();
                assert!(next >= rank, "{state:?} went back on {step:?}");
            }
        }
    }

    #[test]
    fn both_closes_in_either_order_end_in_draining() {
        let ours_first = State::Open.after(Step::CloseSent).after(Step::CloseReceived);
        let theirs_first = State::Open.after(Step::CloseReceived).after(Step::CloseSent);
        assert_eq!(ours_first, State::Draining);
        assert_eq!(theirs_first, State::Draining);
    }
}

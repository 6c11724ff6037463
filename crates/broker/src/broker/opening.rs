//! How sessions begin and end.

use std::sync::Arc;

use tidecast_auth::Grant;
use tidecast_wire::{binary, close, json};

use super::{Broker, Output, RENDITIONS, is_reserved};
use crate::session::{Face, Language, RawFace, Session, SessionId};
use crate::target::{Mode, Target};

impl<E: Copy> Broker<E> {
    /// A multiplexed connection was opened. It is greeted with `hello`, which carries `name`.
    ///
    /// Sessions of equal `rendition`, a number below [`RENDITIONS`], get the same bytes for a message.
    pub fn handle_open(
        &mut self,
        id: SessionId,
        language: Language,
        rendition: u8,
        grant: Arc<Grant>,
        name: &str,
        out: &mut impl Output<Encoded = E>,
    ) {
        let face = match language {
            Language::Json => Face::Json,
            Language::Packets => Face::Packets,
        };
        self.open(id, face, rendition, grant);
        let (message, ping_ms) = (self.limits.message as u64, self.limits.ping_ms);
        self.say(
            id,
            out,
            |out| json::hello(out, name, message, ping_ms),
            |out| binary::hello(out, name, message, ping_ms),
        );
    }

    /// A raw connection was opened.
    pub fn handle_open_raw(
        &mut self,
        id: SessionId,
        rendition: u8,
        grant: Arc<Grant>,
        target: &Target,
        out: &mut impl Output<Encoded = E>,
    ) {
        let publish = match target.mode {
            Mode::Subscribe => Err("this connection only receives (mode=sub)"),
            _ if !target.filter.is_exact() => Err("this connection only receives (its filter has wildcards)"),
            _ if is_reserved(target.filter.as_str()) => {
                Err("this connection only receives ($SYS belongs to the broker, and $share is no topic)")
            }
            _ => Ok(target.filter.as_str().into()),
        };
        let face = RawFace {
            publish,
            echo: target.echo,
            text_kind: target.text_kind,
        };
        self.open(id, Face::Raw(Box::new(face)), rendition, grant);
        if target.mode != Mode::Publish {
            let list = self.shared.directory(self.worker).list(&target.filter);
            if let Err(reason) = self.begin_subscription(&target.filter, list) {
                self.stats.refused += 1;
                return out.close(id, close::OVERLOADED, reason);
            }
            self.join(id, &target.filter, list, target.slow, out);
        }
    }

    fn open(&mut self, id: SessionId, face: Face, rendition: u8, grant: Arc<Grant>) {
        assert!(
            usize::from(rendition) < RENDITIONS,
            "rendition {rendition} of at most {RENDITIONS}"
        );
        if self.sessions.len() <= id.index() {
            self.sessions.resize_with(id.index() + 1, Session::default);
        }
        let session = &mut self.sessions[id.index()];
        debug_assert!(matches!(session.face, Face::Closed), "{id:?} is opened once");
        session.face = face;
        session.rendition = rendition;
        session.grant = Some(grant);
    }

    /// The connection is gone, or about to be: its session ends and its subscriptions with it.
    pub fn handle_close(&mut self, id: SessionId, out: &mut impl Output<Encoded = E>) {
        if self.sessions.get(id.index()).is_none() {
            return;
        }
        while let Some(last) = self.sessions[id.index()].memberships.len().checked_sub(1) {
            self.leave(id, last, out);
        }
        for share in self.shares.leave_all(id) {
            self.end_share(&share);
        }
        self.sessions[id.index()] = Session::default();
    }
}

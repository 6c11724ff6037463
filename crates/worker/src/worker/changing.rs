//! How settings change while connections are there.

use std::io;
use std::sync::Arc;

use tidecast_broker::auth::{Event, Grant};
use tidecast_broker::wire::close;

use super::Worker;
use crate::asking::Asking;
use crate::authentication::unix_now;
use crate::config::Config;
use crate::connection::Phase;
use crate::fanout::Fanout;
use crate::ledger::End;
use crate::site::Site;
use crate::tls::{Session, Stage};

/// Steps of the review of sessions in one turn: each looks at a pattern, which takes 60 to 80 ns. So a turn is some 0.3 ms
/// longer, and a million subscriptions are looked at, by ten rules, in about a second.
const STEPS_PER_TURN: usize = 1 << 12;

impl Worker {
    /// Whether there are settings that connections have not been told of.
    pub(super) fn is_changing(&self) -> bool {
        self.next_config.is_some() || !self.broker.is_reviewed()
    }

    /// Takes the next settings over, once all connections have been told of those before, and goes on telling them.
    pub(super) fn take_settings_over(&mut self) -> io::Result<()> {
        if self.broker.is_reviewed()
            && let Some(config) = self.next_config.take()
        {
            self.configure(&config);
        }
        if self.broker.is_reviewed() {
            return Ok(());
        }
        self.review()
    }

    fn configure(&mut self, config: &Config) {
        // What is fixed stays; all else is as it is said now.
        self.config = Config {
            max_connections: self.config.max_connections,
            topics: self.config.topics,
            compression: self.config.compression,
            flush_delay: self.config.flush_delay,
            core: self.config.core,
            driver: self.config.driver,
            page: self.config.page,
            ..config.clone()
        };
        self.broker.set_limits(self.config.broker_limits(), &mut self.fanout);
        self.fanout.configure(
            self.broker.usual_bounds(),
            self.config.bounds(),
            self.config.authenticator.clone(),
        );
        self.fanout
            .set_rates(self.config.rates, self.config.identity, self.gate.census());
        match (&mut self.fanout.asking, &self.config.hook) {
            (Some(asking), hook) => asking.set_hook(hook.as_ref()),
            (None, Some(hook)) => {
                let most = self.mesh.most_questions(self.number.into());
                self.fanout.asking = Some(Asking::new(hook.clone(), self.number, most));
            }
            (None, None) => {}
        }
        for (_, listener) in &self.listeners {
            // It has taken one before: what could be wrong with another is nothing that those who come should suffer for.
            let _ = listener.set_user_timeout(self.config.unacknowledged_timeout);
        }
        self.changes = self.changes.wrapping_add(1);
        self.site = Site::new(&self.config);
        self.limits = self.config.message_limits();
    }

    /// Tells some more connections of new settings: what they may do now, and what not any more.
    fn review(&mut self) -> io::Result<()> {
        let is_hook = self.is_hook_asked();
        let Worker {
            broker,
            fanout,
            tls,
            site,
            config,
            counters,
            ledger,
            ..
        } = self;
        let mut told = Vec::new();
        broker.review(STEPS_PER_TURN, fanout, |fanout, id, grant| {
            if fanout.lane(id.0).is_sealed() {
                return Ok(grant.clone());
            }
            told.push(id.0);
            let renewed = renew(site, config, tls, fanout, id.0, grant, is_hook);
            if renewed.is_err() {
                ledger.blame(id.0, End::Withdrawn, counters);
            }
            renewed
        });
        self.close_as_wanted()?;
        // A deadline may have come closer.
        for slot in told {
            self.arm_by_state(slot);
        }
        Ok(())
    }

    /// Whether the hook says what those who connect may do.
    fn is_hook_asked(&self) -> bool {
        let asking = self.fanout.asking.as_ref();
        asking.is_some_and(|asking: &Asking| asking.wants(Event::Connect))
    }

    /// Sees to it that what the publisher in `slot` may do is what it may do now: the body of its request may have taken its time.
    ///
    /// # Errors
    /// Its credentials are not good any more; why is for the client to read.
    pub(super) fn renew_publisher(&mut self, slot: u32) -> Result<(), String> {
        let is_hook = self.is_hook_asked();
        let Worker {
            slots,
            fanout,
            tls,
            site,
            config,
            changes,
            ..
        } = self;
        let Phase::Body(posting) = &mut slots[slot as usize].phase else {
            return Ok(());
        };
        if posting.changes != *changes {
            posting.grant = renew(site, config, tls, fanout, slot, &posting.grant, is_hook)?;
            posting.changes = *changes;
        }
        if posting.grant.expires.is_some() && posting.grant.is_expired(unix_now()) {
            return Err(close::own_reason(close::TOKEN_EXPIRED).to_owned());
        }
        Ok(())
    }
}

/// What the grant of the connection in `slot` has become by these settings.
fn renew(
    site: &Site,
    config: &Config,
    tls: &Stage,
    fanout: &mut Fanout,
    slot: u32,
    grant: &Arc<Grant>,
    is_hook: bool,
) -> Result<Arc<Grant>, String> {
    let certificate = tls.session(slot).and_then(Session::identity);
    let renewed = site
        .authentication
        .renew(grant, certificate, &config.listeners, is_hook)?;
    let is_same = renewed.identity == grant.identity;
    if is_same || fanout.identify(slot, renewed.identity.as_deref()) {
        Ok(renewed)
    } else {
        Err("you have as many connections as you may have".to_owned())
    }
}

//! Who somebody is and what they may do. No I/O, no clock.
//!
//! ```text
//!   Settings ──▶ Authenticator ──┬── authenticate(token, now) ──┬─▶ Grant    an identity, the topics it may publish and
//!   (keys, token hashes, rules)  └── certificate(name) ─────────┤            subscribe to, until when
//!                                                               └─▶ Denied   exactly what was wrong
//! ```
//!
//! A [`Grant`] says by filters what may be published and subscribed to: a subscription is permitted if one of them
//! [covers](tidecast_router::Filter::covers) it, so that no wildcard reaches what it could not name. An [`Authenticator`]
//! is made once from [`Settings`] and never changes; new keys or rules make a new one, which says what becomes of grants
//! that an earlier one gave, by their [`Ground`]. A [`Verdict`] is what a service decides that is asked besides.
//!
//! What it is not: where tokens come from and what a refusal looks like on the wire is the worker's business, fetching
//! keys and asking somebody else is the server's.
//!
//! Start reading at [`Authenticator::authenticate`], then [`Patterns`].
#![forbid(unsafe_code)]

mod algorithm;
mod authenticator;
mod certificates;
mod claims;
mod denied;
#[doc(hidden)]
pub mod fuzzing;
mod grant;
mod ground;
mod jwt;
mod key;
mod patterns;
mod settings;
mod sign;
mod template;
mod tokens;
mod verdict;
mod when;

pub use algorithm::Algorithm;
pub use authenticator::Authenticator;
pub use denied::{Denied, Withdrawn};
pub use grant::Grant;
pub use ground::{Ground, Signed};
pub use jwt::{Decoded, decode};
pub use patterns::Patterns;
pub use settings::{
    CertificateSettings, ClaimNames, JwtSettings, KeyMaterial, KeySettings, Problem, Settings, SettingsError,
    TokenSettings,
};
pub use sign::{SignError, SigningKey};
pub use template::{PatternError, Template};
pub use tidecast_router::Limits as TopicLimits;
pub use tokens::{hash_line, static_token};
pub use verdict::{Changes, Event, Ruling, Verdict};
pub use when::UnixSeconds;

//! The signature algorithms that are spoken.

use std::fmt;

macro_rules! algorithms {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)+) => {
        /// How a token is signed. A key has one algorithm, and what a token's header says only has to agree with it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Algorithm {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Algorithm {
            /// All that are spoken.
            pub const ALL: &[Algorithm] = &[$(Algorithm::$name),+];

            /// The name in a token's header.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Algorithm::$name => $word,)+
                }
            }

            /// The algorithm of this name, if it is spoken; `none` is not.
            #[must_use]
            pub fn parse(name: &str) -> Option<Algorithm> {
                match name {
                    $($word => Some(Algorithm::$name),)+
                    _ => None,
                }
            }
        }
    };
}

algorithms! {
    /// HMAC with SHA-256: whoever can check a token can make one.
    Hs256 = "HS256";
    /// RSA, PKCS #1 v1.5, with SHA-256, of 2048 to 8192 bits.
    Rs256 = "RS256";
    /// ECDSA on P-256 with SHA-256.
    Es256 = "ES256";
    /// Ed25519.
    EdDsa = "EdDSA";
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

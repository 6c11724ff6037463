//! What an [`Authenticator`](crate::Authenticator) is made of, as plain values; reading files is the caller's business.

use std::fmt;
use std::time::Duration;

use tidecast_router::Limits;

use crate::template::PatternError;
use crate::when::UnixSeconds;

/// Who is let in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// JSON Web Tokens; none are taken if there is nothing.
    pub jwt: Option<JwtSettings>,
    /// Tokens that were handed out.
    pub tokens: Vec<TokenSettings>,
    /// What client certificates may do; the first rule that fits a name counts.
    pub certificates: Vec<CertificateSettings>,
    /// The longest token that is looked at, in bytes.
    pub max_token: usize,
    /// What patterns may be.
    pub topics: Limits,
}

impl Default for Settings {
    /// Nobody is let in.
    fn default() -> Settings {
        Settings {
            jwt: None,
            tokens: Vec::new(),
            certificates: Vec::new(),
            // Twice what large issuers put into one; a request head has 16 KiB by default.
            max_token: 8 << 10,
            topics: Limits::default(),
        }
    }
}

/// Which JSON Web Tokens are taken, and what they say.
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// Whose signatures are taken.
    pub keys: Vec<KeySettings>,
    /// Audiences (`aud`), one of which a token has to name. With none, only tokens that name none are taken.
    pub audience: Vec<String>,
    /// Issuers (`iss`), one of which a token has to be from; any, if there is none.
    pub issuer: Vec<String>,
    /// Whether a token without an end (`exp`) is refused.
    pub require_expiry: bool,
    /// How much the clocks of issuers and this machine may differ.
    pub leeway: Duration,
    /// Where a token says what.
    pub claims: ClaimNames,
    /// What a token without the claim for it may publish to.
    pub default_publish: Vec<String>,
    /// What a token without the claim for it may subscribe to.
    pub default_subscribe: Vec<String>,
}

impl Default for JwtSettings {
    fn default() -> JwtSettings {
        JwtSettings {
            keys: Vec::new(),
            audience: Vec::new(),
            issuer: Vec::new(),
            require_expiry: true,
            leeway: Duration::from_secs(30),
            claims: ClaimNames::default(),
            default_publish: Vec::new(),
            default_subscribe: Vec::new(),
        }
    }
}

/// The names of the claims that matter here. `a.b` is the claim of that name or, if there is none, the `b` of the object
/// `a`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// Who it is.
    pub identity: String,
    /// The patterns of what may be published to: a string or a list of strings.
    pub publish: String,
    /// The patterns of what may be subscribed to.
    pub subscribe: String,
}

impl Default for ClaimNames {
    /// `sub`, `publish`, `subscribe`.
    fn default() -> ClaimNames {
        ClaimNames {
            identity: "sub".to_owned(),
            publish: "publish".to_owned(),
            subscribe: "subscribe".to_owned(),
        }
    }
}

/// A key, or a set of them.
#[derive(Clone)]
pub struct KeySettings {
    /// Where it stands, as errors name it: a setting, a file.
    pub place: String,
    /// Its name, if tokens have to name it (`kid`). Keys of a set have names of their own.
    pub kid: Option<String>,
    /// The key.
    pub material: KeyMaterial,
}

impl fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySettings({})", self.place)
    }
}

/// What a key is read from.
#[derive(Clone)]
pub enum KeyMaterial {
    /// A secret for HS256, at least 32 bytes.
    Secret(Vec<u8>),
    /// A public key in PEM: `-----BEGIN PUBLIC KEY-----`. What kind of key it is says which algorithm it is for.
    Pem(Vec<u8>),
    /// A JSON Web Key Set. Keys in it that are not for signatures of a known kind are left out.
    Jwks(String),
    /// A key set that is yet to come: until then there may be no key at all.
    Awaited,
}

impl KeyMaterial {
    /// A secret as it stands in a file: without the end of the line, which editors add.
    #[must_use]
    pub fn secret_of_file(contents: &[u8]) -> KeyMaterial {
        let line = contents.strip_suffix(b"\n").unwrap_or(contents);
        KeyMaterial::Secret(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
    }
}

/// A token that was handed out.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// `sha256:` and the 64 hexadecimal digits of the token's hash.
    pub hash: String,
    /// Whose it is.
    pub identity: Option<String>,
    /// What may be published to.
    pub publish: Vec<String>,
    /// What may be subscribed to.
    pub subscribe: Vec<String>,
    /// When it ends.
    pub expires: Option<UnixSeconds>,
}

/// What holders of client certificates may do.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// Their names; one `*` stands for any characters.
    pub name: String,
    /// What may be published to; `{sub}` is the name.
    pub publish: Vec<String>,
    /// What may be subscribed to.
    pub subscribe: Vec<String>,
}

/// A setting that cannot be used, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct SettingsError {
    /// A path from [`Settings`], such as `tokens[2].hash`, or the place that [`KeySettings`] has.
    pub place: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a setting; `Display` says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is not written as hashes are.
    #[error("write sha256: and 64 hexadecimal digits, as `tidecast token random` prints them")]
    Hash,
    /// Two tokens are the same.
    #[error("the same token stands at {0} already")]
    TokenTwice(String),
    /// A pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A secret that can be guessed.
    #[error(
        "the secret has {0} bytes, and HS256 needs 32 that nobody can guess: make one with `tidecast token random`"
    )]
    ShortSecret(usize),
    /// A PEM file without a public key.
    #[error("there is no public key (-----BEGIN PUBLIC KEY-----) in it{0}")]
    NoPublicKey(&'static str),
    /// A key of a kind that is not used.
    #[error("this is no key for RS256 (RSA of 2048 to 8192 bits), ES256 (P-256) or EdDSA (Ed25519)")]
    KeyKind,
    /// Not a key set.
    #[error("this is no JSON Web Key Set: {0}")]
    Jwks(String),
    /// A key set without any key of use.
    #[error("none of the {0} keys in it is for checking RS256, ES256, EdDSA or HS256 signatures")]
    NoUsableKey(usize),
    /// More keys than anybody tries.
    #[error("there are more than {0} keys")]
    TooManyKeys(usize),
    /// There is nothing to check tokens with.
    #[error("there is no key: give a secret, a public key or a key set")]
    NoKey,
    /// Empty where it makes no sense.
    #[error("it is empty")]
    Empty,
    /// Too many wildcards.
    #[error("only one * can stand in a name")]
    Stars,
}

impl SettingsError {
    pub(crate) fn new(place: impl Into<String>, problem: impl Into<Problem>) -> SettingsError {
        SettingsError {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

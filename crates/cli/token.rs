//! `tidecast token`: makes tokens and looks into them. Nothing here needs a broker or a network.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};
use tidecast_auth::{
    Authenticator, Grant, JwtSettings, KeyMaterial, KeySettings, Patterns, Settings, SigningKey, Template, TopicLimits,
    UnixSeconds, decode, hash_line, static_token,
};
use tidecast_server::config::parse_time;

use crate::exit::{Failure, USAGE};

/// A secret for HS256 that stands in no file.
const SECRET: &str = "TIDECAST_JWT_SECRET";

/// Make tokens, and look into them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidecast token random
  openssl rand -base64 48 > secret; tidecast token make --sub ann --subscribe 'users/{sub}/#' --secret-file secret
  openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out public.pem
  tidecast token make --sub ann --publish 'chat/+' --expires-in 8h --key key.pem | tidecast token inspect - --key public.pem")]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Make(MakeArgs),
    Inspect(InspectArgs),
    Random(RandomArgs),
}

/// Print a JSON Web Token
///
/// It is signed with a private key, or with a secret from a file or from TIDECAST_JWT_SECRET.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("signer").args(["secret_file", "key"]))]
struct MakeArgs {
    /// Whose it is; {sub} in patterns stands for this
    #[arg(long, value_name = "NAME")]
    sub: Option<String>,
    /// A filter of topics that may be published to; give it again for more
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// A filter of topics that may be subscribed to; give it again for more
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_time)]
    expires_in: Duration,
    /// Sign with the secret in this file, for HS256
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Sign with the private key in this PEM file, for RS256, ES256 or EdDSA
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The name of the key, for brokers that know several
    #[arg(long, value_name = "NAME")]
    kid: Option<String>,
    /// Who it is for; give it again for more
    #[arg(long, value_name = "NAME")]
    aud: Vec<String>,
    /// Who makes it
    #[arg(long, value_name = "NAME")]
    iss: Option<String>,
}

/// Print what is in a token and, with a key, whether a broker would take it
///
/// The exit code is 1 if it would not.
#[derive(Debug, Args)]
struct InspectArgs {
    /// The token; `-` reads it from stdin
    #[arg(value_name = "TOKEN")]
    token: String,
    /// Check it with the secret in this file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Check it with the public key in this PEM file
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Check it with the keys of this JSON Web Key Set
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// The broker is one of these audiences
    #[arg(long, value_name = "NAME")]
    aud: Vec<String>,
    /// The broker takes tokens of these issuers
    #[arg(long, value_name = "NAME")]
    iss: Vec<String>,
}

/// Print a token that says nothing, and the hash by which a broker is told about it
///
/// The first line is for the client, the second for the configuration, from which the token cannot be told.
#[derive(Debug, Args)]
struct RandomArgs {}

impl TokenArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.task {
            Task::Make(args) => args.run(),
            Task::Inspect(args) => args.run(),
            Task::Random(_) => random(),
        }
    }
}

/// The time now.
fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since.as_secs())
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes)
}

/// The secret in a file, or in the environment if no file is named.
fn secret(file: Option<&Path>) -> Result<Option<KeyMaterial>, Failure> {
    Ok(match file {
        Some(file) => Some(KeyMaterial::secret_of_file(&read(file)?)),
        None => std::env::var_os(SECRET).map(|secret| KeyMaterial::Secret(secret.into_encoded_bytes())),
    })
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure {
        code: USAGE,
        ..Failure::new(error)
    }
}

impl MakeArgs {
    fn run(self) -> Result<(), Failure> {
        let key = self.signer()?;
        let claims = self.claims(now())?;
        let token = key.sign(self.kid.as_deref(), &claims).map_err(Failure::new)?;
        println!("{token}");
        Ok(())
    }

    fn signer(&self) -> Result<SigningKey, Failure> {
        let (key, place) = if let Some(file) = &self.key {
            (SigningKey::from_pem(&read(file)?), file.display().to_string())
        } else if let Some(KeyMaterial::Secret(secret)) = secret(self.secret_file.as_deref())? {
            let place = self.secret_file.as_ref();
            let place = place.map_or_else(|| SECRET.to_owned(), |file| file.display().to_string());
            (SigningKey::secret(&secret), place)
        } else {
            return Err(usage(format!(
                "nothing to sign with: give --secret-file FILE, --key FILE, or a secret in {SECRET}"
            )));
        };
        key.map_err(|error| Failure::new(format!("{place}: {error}")))
    }

    fn claims(&self, now: UnixSeconds) -> Result<Map<String, Value>, Failure> {
        let identity = self.sub.as_deref();
        let limits = TopicLimits::default();
        for (flag, patterns) in [("--publish", &self.publish), ("--subscribe", &self.subscribe)] {
            for pattern in patterns {
                // Expanded too, for what a broker would not take is better known now.
                Template::parse(pattern, &limits)
                    .and_then(|template| template.expand(|name| identity.filter(|_| name == "sub"), &limits))
                    .map_err(|error| usage(format!("{flag}: {error}")))?;
            }
        }
        let mut claims = Map::new();
        let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        if let Some(iss) = &self.iss {
            claim("iss", json!(iss));
        }
        if let Some(sub) = &self.sub {
            claim("sub", json!(sub));
        }
        match &*self.aud {
            [] => {}
            [one] => drop(claim("aud", json!(one))),
            several => drop(claim("aud", json!(several))),
        }
        claim("iat", json!(now.0));
        claim("exp", json!(now.plus(self.expires_in.as_secs()).0));
        for (name, patterns) in [("publish", &self.publish), ("subscribe", &self.subscribe)] {
            if !patterns.is_empty() {
                claim(name, json!(patterns));
            }
        }
        Ok(claims)
    }
}

impl InspectArgs {
    fn run(self) -> Result<(), Failure> {
        let token = if self.token == "-" {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .read_to_string(&mut text)
                .context("cannot read stdin")?;
            text
        } else {
            self.token.clone()
        };
        let token = token.trim();
        let authenticator = self.authenticator()?;
        print!("{}", describe(token, now()).map_err(Failure::new)?);
        let Some(authenticator) = authenticator else {
            println!("signature\n  not checked: give --secret-file, --key or --jwks, or a secret in {SECRET}");
            return Ok(());
        };
        match authenticator.authenticate(token, now()) {
            Ok(grant) => {
                print!("accepted\n{}", permits(&grant));
                Ok(())
            }
            Err(denied) => Err(Failure::new(format!("refused: {denied}"))),
        }
    }

    /// What judges the token; nothing, if there is no key to do so.
    fn authenticator(&self) -> Result<Option<Authenticator>, Failure> {
        let mut keys = Vec::new();
        let mut key = |place: String, material| {
            keys.push(KeySettings {
                place,
                kid: None,
                material,
            });
        };
        if let Some(material) = secret(self.secret_file.as_deref())? {
            let place = self.secret_file.as_ref();
            key(
                place.map_or_else(|| SECRET.to_owned(), |file| file.display().to_string()),
                material,
            );
        }
        if let Some(file) = &self.key {
            key(file.display().to_string(), KeyMaterial::Pem(read(file)?));
        }
        if let Some(file) = &self.jwks {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            key(file.display().to_string(), KeyMaterial::Jwks(text));
        }
        if keys.is_empty() {
            return Ok(None);
        }
        let settings = Settings {
            jwt: Some(JwtSettings {
                keys,
                audience: self.aud.clone(),
                issuer: self.iss.clone(),
                ..JwtSettings::default()
            }),
            ..Settings::default()
        };
        let authenticator = Authenticator::new(&settings).map_err(Failure::new)?;
        Ok(Some(authenticator))
    }
}

fn random() -> Result<(), Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    let token = static_token(bytes);
    println!("{token}\nhash = \"{}\"", hash_line(&token));
    Ok(())
}

/// What is in a token, to read; times as dates too.
fn describe(token: &str, now: UnixSeconds) -> Result<String, String> {
    let decoded = decode(token).map_err(|denied| {
        let hash = hash_line(token);
        format!("{denied}; if it is one that `tidecast token random` made, a broker knows it as {hash}")
    })?;
    let mut text = String::new();
    for (title, members) in [("header", &decoded.header), ("claims", &decoded.claims)] {
        let _ = writeln!(text, "{title}");
        for (name, value) in members {
            let _ = write!(text, "  {name:<10} {value}");
            let moment = value.as_f64().filter(|_| matches!(&**name, "exp" | "nbf" | "iat"));
            if let Some(seconds) = moment.filter(|seconds| *seconds >= 0.0) {
                let at = UnixSeconds(seconds as u64);
                let _ = write!(text, "  {at}, {}", distance(at, now));
            }
            text.push('\n');
        }
    }
    Ok(text)
}

/// How far a moment is away, in the largest unit of which there are two at least.
fn distance(at: UnixSeconds, now: UnixSeconds) -> String {
    let seconds = at.0.abs_diff(now.0);
    let units = [("days", 86_400), ("hours", 3600), ("minutes", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    let (name, length) = unit.unwrap_or(("seconds", 1));
    let count = seconds / length;
    if at < now {
        format!("{count} {name} ago")
    } else {
        format!("in {count} {name}")
    }
}

/// What a grant permits, to read.
fn permits(grant: &Grant) -> String {
    let list = |patterns: &Patterns| match patterns.filters() {
        None => "everything".to_owned(),
        Some([]) => "nothing".to_owned(),
        Some(filters) => filters
            .iter()
            .map(|filter| filter.as_str())
            .collect::<Vec<_>>()
            .join(" "),
    };
    let mut text = String::new();
    for (name, value) in [
        (
            "identity",
            grant.identity.as_deref().unwrap_or("nobody in particular").to_owned(),
        ),
        ("publish", list(&grant.publish)),
        ("subscribe", list(&grant.subscribe)),
        (
            "until",
            grant.expires.map_or_else(|| "for ever".to_owned(), |at| at.to_string()),
        ),
    ] {
        let _ = writeln!(text, "  {name:<10} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TokenArgs,
    }

    fn make(line: &[&str]) -> MakeArgs {
        let line = ["token", "make"].into_iter().chain(line.iter().copied());
        match Line::try_parse_from(line)
            .unwrap_or_else(|error| panic!("{error}"))
            .args
            .task
        {
            Task::Make(args) => args,
            task => panic!("{task:?}"),
        }
    }

    #[test]
    fn flags_become_claims() {
        let args = make(&[
            "--sub",
            "ann",
            "--publish",
            "a/{sub}",
            "--publish",
            "b",
            "--aud",
            "x",
            "--iss",
            "me",
            "--expires-in",
            "2m",
        ]);
        let expected = json!({
            "sub": "ann", "publish": ["a/{sub}", "b"], "aud": "x", "iss": "me",
            "iat": NOW.0, "exp": NOW.0 + 120,
        });
        assert_eq!(Value::Object(args.claims(NOW).expect("good flags")), expected);
        let args = make(&["--aud", "x", "--aud", "y"]);
        let expected = json!({"aud": ["x", "y"], "iat": NOW.0, "exp": NOW.0 + 3600});
        assert_eq!(Value::Object(args.claims(NOW).expect("good flags")), expected);
    }

    #[test]
    fn what_no_broker_would_grant_is_refused_before_it_is_signed() {
        for (line, words) in [
            (vec!["--publish", "a#"], "--publish"),
            (vec!["--subscribe", "a/{sub}"], "\"sub\""),
            (vec!["--sub", "+", "--subscribe", "a/{sub}"], "contains one of"),
        ] {
            let failure = make(&line).claims(NOW).expect_err(words);
            assert_eq!(failure.code, USAGE);
            assert!(failure.error.to_string().contains(words), "{}", failure.error);
        }
        let both = Line::try_parse_from(["token", "make", "--key", "a", "--secret-file", "b"]);
        assert!(both.is_err(), "there is one key to sign with");
    }

    #[test]
    fn a_token_is_described_with_its_times() {
        let key = SigningKey::secret(&[1; 32]).expect("long enough");
        let claims = make(&["--sub", "ann", "--expires-in", "90"])
            .claims(NOW)
            .expect("good flags");
        let token = key.sign(Some("k"), &claims).expect("a token");
        let text = describe(&token, NOW).expect("a token");
        for line in [
            "header\n",
            "  alg        \"HS256\"\n",
            "  kid        \"k\"\n",
            "claims\n",
            "  exp        1800000090  2027-01-15T08:01:30Z, in 90 seconds\n",
            "  iat        1800000000  2027-01-15T08:00:00Z, in 0 seconds\n",
            "  sub        \"ann\"\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        let hint = describe("tidecast_abc", NOW).expect_err("no JSON Web Token");
        assert!(hint.contains(&hash_line("tidecast_abc")), "{hint}");
    }

    #[test]
    fn a_distance_has_a_unit_that_says_enough() {
        for (at, words) in [
            (NOW.0 + 59, "in 59 seconds"),
            (NOW.0 + 119, "in 119 seconds"),
            (NOW.0 + 120, "in 2 minutes"),
            (NOW.0 - 3 * 3600, "3 hours ago"),
            (NOW.0 + 30 * 86_400, "in 30 days"),
        ] {
            assert_eq!(distance(UnixSeconds(at), NOW), words);
        }
    }
}

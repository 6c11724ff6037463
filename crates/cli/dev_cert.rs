//! `tidecast dev-cert`: a certificate to try TLS with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use time::{Duration, OffsetDateTime};

use crate::exit::Failure;

/// Names that every certificate is for.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long it is valid: longer than browsers accept would be of no use.
const VALID: Duration = Duration::days(365);
/// Clocks of other machines may be behind.
const BEFORE: Duration = Duration::days(1);

const AUTHORITY: &str = "ca.pem";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// Make a certificate to try TLS with
///
/// It is for localhost, 127.0.0.1 and ::1, and for the names that are given besides. An authority is made to sign it, for
/// clients to trust; its own key is thrown away, so that nobody can sign anything else with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidecast dev-cert
  tidecast dev-cert --out /tmp/tls --host broker.test --host 192.168.1.7")]
pub(crate) struct DevCertArgs {
    /// The directory for ca.pem, cert.pem and key.pem; it is made if it is not there
    #[arg(long, value_name = "DIR", default_value = "tidecast-dev-cert")]
    out: PathBuf,
    /// A name or an address that the certificate is for too; give it again for more
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
}

/// What was made, in PEM.
struct Made {
    authority: String,
    certificate: String,
    key: String,
    /// SHA-256 of the public key, in base64, as Chromium wants it.
    fingerprint: String,
    until: OffsetDateTime,
}

impl DevCertArgs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let text = self.make(OffsetDateTime::now_utc())?;
        let written = io::stdout().lock().write_all(text.as_bytes());
        // The files are there, whether or not anybody reads about it.
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(anyhow::Error::new(error).context("cannot write to stdout").into())
            }
            _ => Ok(()),
        }
    }

    /// Makes the files, and gives what is to be said about them.
    fn make(&self, now: OffsetDateTime) -> Result<String, Failure> {
        let names: Vec<String> = LOCAL
            .into_iter()
            .map(str::to_owned)
            .chain(self.host.iter().cloned())
            .collect();
        let made = sign(&names, now)?;
        fs::create_dir_all(&self.out).with_context(|| format!("cannot make the directory {}", self.out.display()))?;
        let files = [
            (AUTHORITY, &made.authority, 0o644),
            (CERTIFICATE, &made.certificate, 0o644),
            (KEY, &made.key, 0o600),
        ];
        let is_there = |name: &&str| self.out.join(name).exists();
        if !self.force
            && let Some(name) = files.iter().map(|(name, ..)| *name).find(|name| is_there(name))
        {
            return Err(Failure::new(format!(
                "{} is there already: give another directory with --out, or --force to write over it",
                self.out.join(name).display()
            )));
        }
        for (name, text, mode) in files {
            let path = self.out.join(name);
            write(&path, text, mode).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(self.explain(&names, &made))
    }

    fn explain(&self, names: &[String], made: &Made) -> String {
        let path = |name| shell_word(&self.out.join(name));
        let (authority, certificate, key) = (path(AUTHORITY), path(CERTIFICATE), path(KEY));
        let host = self.host.first().map_or("localhost", String::as_str);
        let authority_host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        format!(
            "A certificate for {names}, valid until {until}:
  {authority}  the authority that clients are to trust; its key was thrown away
  {certificate}  the certificate
  {key}  its private key, readable by you alone

Serve with it:
  tidecast serve --listen wss://{listen}:8443 --tls-cert {certificate} --tls-key {key}{open}

Then:
  curl --cacert {authority} https://{authority_host}:8443/
  tidecast sub --tls-ca {authority} --url wss://{authority_host}:8443 'demo/#'
  NODE_EXTRA_CA_CERTS={authority} node your-client.mjs

Chromium, for good (certutil is of the package libnss3-tools), or for one start:
  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n tidecast-dev -i {authority}
  chromium --ignore-certificate-errors-spki-list={fingerprint} https://{authority_host}:8443/
",
            names = names.join(", "),
            until = made.until.date(),
            listen = if self.host.is_empty() { "127.0.0.1" } else { "0.0.0.0" },
            open = if self.host.is_empty() { "" } else { " --allow-anonymous" },
            fingerprint = made.fingerprint,
        )
    }
}

/// Makes an authority, and a certificate of it for `names`.
fn sign(names: &[String], now: OffsetDateTime) -> Result<Made, Failure> {
    let failed = |error: rcgen::Error| Failure::new(format!("cannot make the certificate: {error}"));
    let mut wanted = CertificateParams::new(names.to_vec()).map_err(|error| {
        Failure::new(format!(
            "--host: one of {} is neither a name nor an address: {error}",
            names.join(", ")
        ))
    })?;
    (wanted.not_before, wanted.not_after) = (now - BEFORE, now + VALID);
    wanted.distinguished_name.push(DnType::CommonName, "tidecast dev");
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.use_authority_key_identifier_extension = true;
    let mut issuing = CertificateParams::default();
    (issuing.not_before, issuing.not_after) = (wanted.not_before, wanted.not_after);
    issuing.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    issuing.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let name = format!("tidecast dev authority of {}", now.date());
    issuing.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(issuing, KeyPair::generate().map_err(failed)?).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = wanted.signed_by(&key, &authority).map_err(failed)?;
    let fingerprint = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    Ok(Made {
        authority: authority.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        fingerprint: STANDARD.encode(fingerprint),
        until: wanted.not_after,
    })
}

/// Writes a file that is new, so that its mode holds from the beginning; one that was there is replaced in one step.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// A path as a word of a shell.
fn shell_word(path: &Path) -> String {
    let word = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn args(name: &str) -> DevCertArgs {
        let out = std::env::temp_dir().join(format!("tidecast-dev-cert-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&out);
        DevCertArgs {
            out,
            host: vec!["broker.test".to_owned()],
            force: false,
        }
    }

    #[test]
    fn the_key_is_readable_by_its_owner_alone_and_nothing_is_written_over_unasked() {
        let mut args = args("modes");
        let now = OffsetDateTime::now_utc();
        let said = args.make(now).unwrap();
        assert!(said.contains("broker.test") && said.contains("--tls-key"), "{said}");
        let mode = |name| fs::metadata(args.out.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(KEY), 0o600);
        let first = fs::read_to_string(args.out.join(KEY)).unwrap();
        let refused = args.make(now).unwrap_err();
        assert!(refused.error.to_string().contains("--force"), "{refused:?}");
        assert_eq!(fs::read_to_string(args.out.join(KEY)).unwrap(), first);
        args.force = true;
        args.make(now).unwrap();
        assert_ne!(fs::read_to_string(args.out.join(KEY)).unwrap(), first);
        assert_eq!(fs::read_dir(&args.out).unwrap().count(), 3);
        fs::remove_dir_all(&args.out).unwrap();
    }

    #[test]
    fn a_name_that_is_none_is_refused_before_anything_is_written() {
        let mut args = args("names");
        args.host = vec!["zwölf".to_owned()];
        let refused = args.make(OffsetDateTime::now_utc()).unwrap_err();
        assert!(refused.error.to_string().contains("zwölf"), "{refused:?}");
        assert!(!args.out.exists());
    }

    #[test]
    fn paths_are_words_of_a_shell() {
        assert_eq!(shell_word(Path::new("a/b-c.pem")), "a/b-c.pem");
        assert_eq!(shell_word(Path::new("it's here")), r"'it'\''s here'");
    }
}

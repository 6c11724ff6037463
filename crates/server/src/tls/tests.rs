//! Files that are in order, and every way in which they may not be.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, SanType};
use rustls::crypto::aws_lc_rs;

use super::certificate::{Certificates, identity};
use super::*;

/// A directory of its own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidecast-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for these names that has signed itself, with its key.
    fn certificate(&self, name: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        CertificateFiles {
            chain: self.write(&format!("{name}.pem"), &certificate.pem()),
            key: self.write(&format!("{name}-key.pem"), &key.serialize_pem()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(certificates: &[&CertificateFiles]) -> TlsSettings {
    TlsSettings {
        certificates: certificates.iter().map(|&files| files.clone()).collect(),
        ..TlsSettings::default()
    }
}

fn load(settings: TlsSettings) -> Result<(Tls, Vec<TlsWarning>), TlsError> {
    Tls::new(settings, None, SystemTime::now())
}

fn der(path: &Path) -> Vec<u8> {
    certificate::read_chain(path).unwrap()[0].to_vec()
}

#[test]
fn names_choose_the_certificate_exact_before_wildcard_and_the_first_for_all_others() {
    let folder = Folder::new();
    let first = folder.certificate("first", &["a.test"]);
    let wild = folder.certificate("wild", &["*.b.test", "b.test"]);
    let exact = folder.certificate("exact", &["x.b.test"]);
    let files = [first.clone(), wild.clone(), exact.clone()];
    let provider = aws_lc_rs::default_provider();
    let mut warnings = Vec::new();
    let certificates = Certificates::load(&files, &provider, SystemTime::now(), &mut warnings).unwrap();
    assert_eq!(warnings, []);
    for (name, expected) in [
        ("a.test", &first),
        ("A.Test", &first),
        ("b.test", &wild),
        ("y.b.test", &wild),
        ("x.b.test", &exact),
        ("y.x.b.test", &first),
        ("elsewhere.test", &first),
        ("test", &first),
    ] {
        assert_eq!(certificates.chain_of(name)[0].to_vec(), der(&expected.chain), "{name}");
    }
}

#[test]
fn every_fault_of_a_file_is_told_with_its_name() {
    let folder = Folder::new();
    let good = folder.certificate("good", &["a.test"]);
    let other = folder.certificate("other", &["a.test"]);
    let certificate = fs::read_to_string(&good.chain).unwrap();
    let key = fs::read_to_string(&good.key).unwrap();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let truncated: String = certificate.lines().take(4).map(|line| format!("{line}\n")).collect();
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let missing = folder.0.join("missing.pem");
    let with = |chain: &Path, key: &Path| CertificateFiles {
        chain: chain.to_owned(),
        key: key.to_owned(),
    };
    let table: [(CertificateFiles, &[&str]); 9] = [
        (with(&missing, &good.key), &["missing.pem", "is the name right"]),
        (with(&good.chain, &missing), &["missing.pem", "is the name right"]),
        (with(&good.chain, &good.chain), &["good.pem has no private key"]),
        (with(&good.key, &good.key), &["good-key.pem has no certificate"]),
        (
            with(&good.chain, &other.key),
            &["other-key.pem does not belong", "good.pem"],
        ),
        (
            with(&good.chain, &folder.write("encrypted.pem", &encrypted)),
            &["encrypted.pem is encrypted", "openssl pkey"],
        ),
        (
            with(&folder.write("truncated.pem", &truncated), &good.key),
            &["truncated.pem", "not in order"],
        ),
        (
            with(&folder.write("nonsense.pem", nonsense), &good.key),
            &["nonsense.pem cannot be used"],
        ),
        (
            with(&good.chain, &folder.write("no-key.pem", no_key)),
            &["no-key.pem cannot be used"],
        ),
    ];
    for (files, words) in table {
        let error = load(settings(&[&good, &files])).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }
    let error = load(TlsSettings::default()).unwrap_err().to_string();
    assert!(error.contains("--tls-cert"), "{error}");
    let clients = ClientCertificates::Required(good.key.clone());
    let error = load(TlsSettings {
        clients,
        ..settings(&[&good])
    })
    .unwrap_err();
    assert!(error.to_string().contains("good-key.pem has no certificate"), "{error}");
}

#[test]
fn a_chain_and_its_key_may_be_in_one_file_and_keys_in_any_form() {
    let folder = Folder::new();
    let good = folder.certificate("good", &["a.test"]);
    let both = [&good.chain, &good.key].map(|path| fs::read_to_string(path).unwrap());
    let both = folder.write("both.pem", &both.concat());
    let files = CertificateFiles {
        chain: both.clone(),
        key: both,
    };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let other = CertificateParams::new(vec!["b.test".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let other = CertificateFiles {
        chain: folder.write("p384.pem", &other.pem()),
        key: folder.write("p384-key.pem", &key.serialize_pem()),
    };
    let (_, warnings) = load(settings(&[&files, &other])).unwrap();
    assert_eq!(warnings, []);
}

#[test]
fn a_certificate_that_is_out_of_date_or_for_nobody_is_warned_of() {
    let folder = Folder::new();
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::default();
    wanted.not_before = rcgen::date_time_ymd(2020, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let files = CertificateFiles {
        chain: folder.write("old.pem", &wanted.self_signed(&key).unwrap().pem()),
        key: folder.write("old-key.pem", &key.serialize_pem()),
    };
    let day = Duration::from_secs(24 * 3600);
    let year_2021 = SystemTime::UNIX_EPOCH + 18628 * day;
    let kinds = |now| {
        let (_, warnings) = Tls::new(settings(&[&files]), None, now).unwrap();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (now, words) in [
        (year_2021 - 400 * day, "is not valid before Jan  1"),
        (year_2021 - 100 * day, "has no names"),
        (year_2021 - 5 * day, "expires on Jan  1"),
        (year_2021 + day, "expired on Jan  1"),
    ] {
        let said = kinds(now);
        assert!(said.iter().any(|line| line.contains(words)), "{words:?}: {said:?}");
        assert!(said.iter().any(|line| line.contains("has no names")), "{said:?}");
    }
}

#[test]
fn tickets_stay_good_unless_clients_were_or_are_to_prove_who_they_are() {
    let folder = Folder::new();
    let good = folder.certificate("good", &["a.test"]);
    let asking = TlsSettings {
        clients: ClientCertificates::Optional(good.chain.clone()),
        ..settings(&[&good])
    };
    let plain = settings(&[&good]);
    for (before, after, stay) in [
        (&plain, &plain, true),
        (&plain, &asking, false),
        (&asking, &plain, false),
        (&asking, &asking, false),
    ] {
        let (before, _) = load(before.clone()).unwrap();
        let (after, _) = Tls::new(after.clone(), Some(&before), SystemTime::now()).unwrap();
        assert_eq!(Arc::ptr_eq(&before.tickets, &after.tickets), stay);
    }
}

#[test]
fn each_part_of_a_certificate_can_be_the_identity() {
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(DnType::OrganizationName, "org");
    wanted.distinguished_name.push(DnType::CommonName, "sensor 7");
    wanted.subject_alt_names = vec![
        SanType::URI("spiffe://test/sensor".try_into().unwrap()),
        SanType::Rfc822Name("sensor@test".try_into().unwrap()),
        SanType::DnsName("sensor.test".try_into().unwrap()),
        SanType::DnsName("second.test".try_into().unwrap()),
    ];
    let certificate = wanted.self_signed(&key).unwrap();
    for (field, expected) in [
        (IdentityField::CommonName, "sensor 7"),
        (IdentityField::Dns, "sensor.test"),
        (IdentityField::Uri, "spiffe://test/sensor"),
        (IdentityField::Email, "sensor@test"),
    ] {
        assert_eq!(identity(certificate.der(), field).as_deref(), Some(expected));
    }
    let mut nobody = CertificateParams::default();
    nobody.distinguished_name = rcgen::DistinguishedName::new();
    let nobody = nobody.self_signed(&key).unwrap();
    for field in [IdentityField::CommonName, IdentityField::Uri] {
        assert_eq!(identity(nobody.der(), field), None);
    }
}

//! Brokers that take tokens, and clients that bring some.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use tidecast_client::{Client, Error, Options};

use super::support::*;

/// A directory that is gone at the end of the test.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("tidecast-auth-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef\n";

/// A broker that takes tokens signed with the secret, and what else the file says.
pub(crate) fn broker(directory: &Directory, more: &str) -> Broker {
    let secret = directory.file("secret", SECRET);
    let text = format!("[auth]\njwt_secret_file = {secret:?}\njwt_leeway = 0\n{more}");
    let file = directory.file("tidecast.toml", &text);
    Broker::start(&["--config", &file])
}

/// A token made by the tool that operators use.
pub(crate) fn token(directory: &Directory, arguments: &[&str]) -> String {
    let secret = directory.file("secret", SECRET);
    let mut command = tidecast(&["token", "make", "--secret-file", &secret]);
    command.args(arguments);
    let output = run(command, None);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn connect(broker: &Broker, path: &str, token: &str) -> Result<Client, Error> {
    Client::connect(&broker.ws(path), &bearer(token))
}

pub(crate) fn bearer(token: &str) -> Options {
    Options {
        headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
        ..Options::default()
    }
}

/// A JSON connection of whoever has `token`, greeted.
pub(crate) fn json_with(broker: &Broker, token: &str) -> Client {
    let mut client = connect(broker, "/ws", token).unwrap();
    assert!(text(&mut client).starts_with(r#"["hello","#));
    client
}

/// The code with which the broker closes, whatever it says before.
pub(crate) fn closed(client: &mut Client) -> u16 {
    loop {
        match client.receive(Some(Instant::now() + DEADLINE)) {
            Ok(Some(_)) => {}
            Err(Error::Closed { code, .. }) => return code.unwrap_or(1005),
            other => panic!("{other:?}"),
        }
    }
}

//! Clients that nobody here wrote. `tests/setup.sh` installs them. Servers that nobody here wrote meet our client in
//! `crates/client/tests/interop.rs`.

mod support;

use std::path::Path;
use std::process::Command;

use support::*;

fn interop(program: &str, arguments: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let program = if program.contains('/') {
        folder.join(program)
    } else {
        program.into()
    };
    let mut command = Command::new(&program);
    command.args(arguments).current_dir(&folder);
    let output = run(command, None);
    assert!(
        output.status.success(),
        "{program:?} {arguments:?} (installed by tests/setup.sh): {}",
        said(&output)
    );
}

#[test]
fn npm_ws_speaks_raw_and_json() {
    let broker = Broker::start(&[]);
    interop("node", &["ws_client.mjs", &broker.ws("")]);
}

#[test]
fn python_websockets_speaks_raw_and_json() {
    let broker = Broker::start(&[]);
    interop(".venv/bin/python", &["websockets_client.py", &broker.ws("")]);
}

#[test]
fn in_chromium_one_tab_publishes_and_another_shows_it() {
    let broker = Broker::start(&[]);
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&screenshots).unwrap();
    let url = format!("http://{}", broker.address);
    interop("node", &["chromium_page.mjs", &url, screenshots.to_str().unwrap()]);
}

//! What fuzz targets run, and unit tests with them.

use std::path::Path;

use crate::config::Loaded;

/// Any file is read, or refused with the places that are wrong; what was read and is written again is the same.
///
/// # Panics
/// It is not so.
pub fn config(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else {
        return;
    };
    let path = Path::new("fuzz.toml");
    match Loaded::parse(path, text) {
        Err(error) => assert!(!error.0.is_empty() && !error.to_string().is_empty()),
        // A secret is not written again.
        Ok(loaded) if loaded.config.auth.jwt_secret.is_some() => {}
        Ok(loaded) => {
            let shown = loaded.show();
            let again = Loaded::parse(path, &shown).unwrap_or_else(|error| panic!("{error} in {shown}"));
            assert_eq!(again.show().lines().count(), shown.lines().count(), "{shown}");
            assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config), "{shown}");
        }
    }
}

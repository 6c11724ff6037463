//! Addresses to listen on, and the pages that may connect.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;

pub use tidecast_worker::Origin;

use super::kind::Parse;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where. Port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// With TLS.
    pub tls: bool,
}

impl Listen {
    /// Without TLS.
    pub fn plain(address: SocketAddr) -> Listen {
        Listen { address, tls: false }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let (tls, address) = match text.split_once("://") {
            None => (false, text),
            Some(("ws" | "http", address)) => (false, address),
            Some(("wss" | "https", address)) => (true, address),
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is not spoken: give ws:// or nothing for plain addresses, wss:// for TLS"
                ));
            }
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let address = address.parse().map_err(|_| {
            format!("{text:?} is no address: give IP:PORT, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080")
        })?;
        Ok(Listen { address, tls })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.tls { "wss://" } else { "" }, self.address)
    }
}

/// The address of the control plane, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminListen(pub Option<SocketAddr>);

impl AdminListen {
    /// Where it is unless something else is said.
    pub const DEFAULT: AdminListen = AdminListen(Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9091))));
}

impl FromStr for AdminListen {
    type Err = String;

    fn from_str(text: &str) -> Result<AdminListen, String> {
        if text == "none" {
            return Ok(AdminListen(None));
        }
        let text = text.strip_prefix("http://").unwrap_or(text);
        let address = text.strip_suffix('/').unwrap_or(text).parse().map_err(|_| {
            format!("{text:?} is no address: give IP:PORT, such as 127.0.0.1:9091, or none for no control plane")
        })?;
        Ok(AdminListen(Some(address)))
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Parse for AdminListen {
    const NAME: &'static str = "ADDR";
}

impl Parse for Listen {
    const NAME: &'static str = "ADDR";
}

impl Parse for Origin {
    const NAME: &'static str = "ORIGIN";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_by_its_scheme_whether_it_is_encrypted() {
        for (text, tls, written) in [
            ("127.0.0.1:80", false, "127.0.0.1:80"),
            ("ws://127.0.0.1:80/", false, "127.0.0.1:80"),
            ("http://[::]:80", false, "[::]:80"),
            ("wss://0.0.0.0:443", true, "wss://0.0.0.0:443"),
            ("https://0.0.0.0:443/", true, "wss://0.0.0.0:443"),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.tls, &*listen.to_string()), (tls, written));
            assert_eq!(written.parse(), Ok(listen));
        }
        for text in [
            "",
            "80",
            "localhost:80",
            "127.0.0.1",
            "tcp://127.0.0.1:80",
            "ws://127.0.0.1:80/ws",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}

//! What a member alone prints when it is ready: for a person, with one line to paste.

use std::{fmt::Write, net::SocketAddr, path::Path};

/// The name of the tenant that a member alone has.
pub const TENANT: &str = "demo";

/// What there is to know.
pub struct Welcome<'a> {
    /// Where REST is served.
    pub data: SocketAddr,
    /// Where health is served.
    pub health: SocketAddr,
    /// Where metrics are served.
    pub metrics: SocketAddr,
    /// The demo tenant's token.
    pub token: &'a str,
    /// Where the data is.
    pub data_dir: &'a Path,
    /// Whether the data goes with the process.
    pub temporary: bool,
}

impl Welcome<'_> {
    /// The text: exactly one of its lines begins with `curl `.
    pub fn text(&self) -> String {
        let Welcome {
            data,
            health,
            metrics,
            token,
            data_dir,
            temporary,
        } = self;
        let url = format!("http://{}/api/v1/tenants/{TENANT}/keys/greeting", reachable(*data));
        let fate = if *temporary { "gone when this process ends" } else { "kept" };
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = writeln!(text, "kvnode is ready. Tenant `{TENANT}`, data in {} ({fate}).", data_dir.display());
        let _ = writeln!(text, "Write a key (paste this line into another terminal):");
        let _ = writeln!(
            text,
            "curl -X PUT -H 'Authorization: Bearer {token}' -H 'Content-Type: text/plain' --data-binary 'hello' '{url}'"
        );
        let _ = writeln!(
            text,
            "Read it back with the same line, but without `-X PUT` and `--data-binary 'hello'`."
        );
        let _ = writeln!(
            text,
            "Health: http://{}/readyz   metrics: http://{}/metrics   end: Ctrl-C",
            reachable(*health),
            reachable(*metrics)
        );
        text
    }
}

/// An address that a client on this machine can use, where the socket listens on all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (std::net::Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_line_is_to_be_pasted() {
        let address: SocketAddr = "0.0.0.0:8080".parse().expect("an address");
        let welcome = Welcome {
            data: address,
            health: address,
            metrics: address,
            token: "t.o.k",
            data_dir: Path::new("/tmp/x"),
            temporary: true,
        };
        let text = welcome.text();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("curl ")).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(
            lines[0].contains("Authorization: Bearer t.o.k") && lines[0].contains("'http://127.0.0.1:8080/"),
            "{text}"
        );
    }
}

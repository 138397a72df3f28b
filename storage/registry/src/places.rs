//! Which places on the network a registry may send us to. A registry is a stranger: its redirects, token services and upload addresses must not
//! turn this host into a way to what only this host reaches.

use std::net::IpAddr;

use url::{Host, Url};

/// Loopback registries speak plain http without being asked (REM-4).
pub(crate) fn is_loopback_host(host: &str) -> bool {
    Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Addresses that mean something else on every machine: this host, this link, nobody.
fn is_local_only(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => IpAddr::V6(address),
        },
        _ => return is_loopback(url),
    };
    address.is_loopback()
        || address.is_unspecified()
        || match address {
            IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
}

/// Whether what came from `from` may send us to `to`; the error says why not.
pub(crate) fn may_lead(from: &Url, to: &Url) -> Result<(), String> {
    if !matches!(to.scheme(), "http" | "https") {
        return Err(format!("it leads to a {} address", to.scheme()));
    }
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err("it leads from TLS to an address without".to_owned());
    }
    if is_local_only(to) && !is_local_only(from) {
        return Err(format!("it leads into this machine: {}", to.host_str().unwrap_or_default()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rem_4_loopback_hosts() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["localhost.example.org", "10.0.0.1", "registry.local:5000", "[::2]"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn where_a_registry_may_lead() {
        for (from, to, allowed) in [
            ("https://r.io/", "https://cdn.io/", true),
            ("https://r.io/", "https://10.0.0.5/", true),
            ("http://r.io/", "https://cdn.io/", true),
            ("https://r.io/", "http://cdn.io/", false),
            ("https://r.io/", "file:///etc/shadow", false),
            ("http://r.io/", "ftp://r.io/", false),
            ("http://r.io/", "http://169.254.169.254/latest", false),
            ("http://r.io/", "http://127.0.0.1:2375/", false),
            ("http://r.io/", "http://localhost/", false),
            ("http://r.io/", "http://0.0.0.0/", false),
            ("http://r.io/", "http://[::1]/", false),
            ("http://r.io/", "http://[::ffff:127.0.0.1]/", false),
            ("http://r.io/", "http://[fe80::1]/", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:6000/", true),
        ] {
            let parse = |text: &str| Url::parse(text).expect(text);
            assert_eq!(may_lead(&parse(from), &parse(to)).is_ok(), allowed, "{from} to {to}");
        }
    }
}

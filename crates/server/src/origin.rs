//! Origins of web pages: what a browser says that a page comes from, and which of them may use this server.
//!
//! Nothing here looks at a request; `front/cors.rs` does.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::uri::Authority;

/// The longest origin that is looked at, in bytes: a host name has at most 253.
const ORIGIN_BYTES_MAX: usize = 512;

/// Where a page comes from, in the form in which browsers write it: scheme and host in lower case, no port where it is
/// the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    /// An address of IPv6 in its brackets.
    host: String,
    port: Option<u16>,
}

/// Why a text is no origin.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected the origin of pages, as in https://app.example or http://localhost:5173 and without a path, or * for all"
)]
pub struct NotAnOrigin;

impl Origin {
    /// Whether it is a page from this machine, by a name that no stranger can have.
    pub fn is_loopback(&self) -> bool {
        matches!(self.scheme.as_str(), "http" | "https") && is_loopback_host(&self.host)
    }

    /// Whether the page comes from the host (and port) that it now asks, as the request names it. Which scheme the page
    /// was had by is not compared: whoever ends TLS before this server speaks plainly with it.
    pub fn is_at(&self, authority: &str) -> bool {
        let Some((host, port)) = split(authority) else {
            return false;
        };
        self.host == host && self.port == port.filter(|port| !self.is_own_port(*port))
    }

    fn is_own_port(&self, port: u16) -> bool {
        own_port(&self.scheme) == Some(port)
    }
}

/// Whether the host, an address of IPv6 in its brackets, is this machine for everybody.
fn is_loopback_host(host: &str) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match address.unwrap_or(host).parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn own_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// The host in lower case, and the port if one is said.
fn split(authority: &str) -> Option<(String, Option<u16>)> {
    if authority.len() > ORIGIN_BYTES_MAX || authority.contains('@') {
        return None;
    }
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host().to_ascii_lowercase();
    let said = authority.as_str().len() > authority.host().len();
    match authority.port_u16() {
        None if said => None,
        port => Some((host, port)),
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(NotAnOrigin)?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme {
            return Err(NotAnOrigin);
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split(authority).ok_or(NotAnOrigin)?;
        if host.is_empty() {
            return Err(NotAnOrigin);
        }
        let port = port.filter(|port| own_port(&scheme) != Some(*port));
        Ok(Self { scheme, host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// What one `--allow-origin` allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`
    Any,
    One(Origin),
}

impl FromStr for AllowedOrigin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        match text.trim() {
            "*" => Ok(Self::Any),
            // What people copy from an address bar.
            text => text
                .strip_suffix('/')
                .unwrap_or(text)
                .parse()
                .map(Self::One),
        }
    }
}

/// Whose pages may use the server. Pages that the server itself has sent always may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    Any,
    Some {
        /// Pages of this machine.
        loopback: bool,
        /// Those that were named.
        named: Vec<Origin>,
        /// The server listens on this machine alone.
        here_alone: bool,
    },
}

impl AllowedOrigins {
    /// What the settings come to: those that are named, or when none is, the pages of this machine if nobody else can
    /// reach the server.
    pub fn new(settings: &[AllowedOrigin], listens_on_loopback: bool) -> Self {
        let mut named = Vec::with_capacity(settings.len());
        for setting in settings {
            match setting {
                AllowedOrigin::Any => return Self::Any,
                AllowedOrigin::One(origin) => named.push(origin.clone()),
            }
        }
        Self::Some {
            loopback: named.is_empty() && listens_on_loopback,
            named,
            here_alone: listens_on_loopback,
        }
    }

    /// Whether a page of this origin may ask, when the request names the server by `authority`. A page without an origin
    /// of its own (`null`: a file, a frame that is locked in) may only where any may.
    pub fn allow(&self, origin: &str, authority: Option<&str>) -> bool {
        let Self::Some {
            loopback,
            named,
            here_alone: _,
        } = self
        else {
            return true;
        };
        let Ok(origin) = origin.parse::<Origin>() else {
            return false;
        };
        authority.is_some_and(|authority| origin.is_at(authority))
            || (*loopback && origin.is_loopback())
            || named.contains(&origin)
    }

    /// Whether the server may be asked by this name. One that listens on this machine alone has no other names than the
    /// machine's own and those that were named: a stranger can point a name of his at this machine, and his pages would
    /// then be the server's own for every browser.
    pub fn goes_by(&self, authority: &str) -> bool {
        let Self::Some {
            loopback: _,
            named,
            here_alone: true,
        } = self
        else {
            return true;
        };
        let Some((host, _)) = split(authority) else {
            return false;
        };
        is_loopback_host(&host) || named.iter().any(|origin| origin.host == host)
    }

    /// Whether a page of a stranger may have something fetched without saying where it comes from, as pictures are.
    /// `site` is how a browser says it stands to the server.
    pub fn allow_unnamed(&self, site: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Some {
                loopback,
                named: _,
                here_alone: _,
            } => match site {
                "cross-site" => false,
                "same-site" => *loopback,
                _ => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(settings: &[&str], loopback: bool) -> AllowedOrigins {
        let settings: Vec<AllowedOrigin> =
            settings.iter().map(|text| text.parse().unwrap()).collect();
        AllowedOrigins::new(&settings, loopback)
    }

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        for (text, written) in [
            ("https://App.Example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("http://[::1]:80", "http://[::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), written);
        }
        for wrong in [
            "",
            "null",
            "*",
            "app.example",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://a:b",
            "https://a:65536",
            "https://a b",
            "://a",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
        assert!("https://a/".parse::<AllowedOrigin>().is_ok());
        assert!("https://a/b".parse::<AllowedOrigin>().is_err());
    }

    #[test]
    fn pages_of_this_machine_are_allowed_while_only_it_can_ask() {
        let here = [
            "http://localhost",
            "https://localhost:5173",
            "http://app.localhost:1",
            "http://127.0.0.1:8080",
            "http://[::1]:3000",
        ];
        let strange = [
            "null",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "https://example",
            "http://10.0.0.1",
            "file://localhost",
            "http://localhost@example",
        ];
        for origin in here {
            assert!(allowed(&[], true).allow(origin, None), "{origin}");
            assert!(!allowed(&[], false).allow(origin, None), "{origin}");
            assert!(
                !allowed(&["https://a"], true).allow(origin, None),
                "{origin}"
            );
        }
        for origin in strange {
            assert!(!allowed(&[], true).allow(origin, None), "{origin}");
            assert!(
                allowed(&["https://a", "*"], false).allow(origin, None),
                "{origin}"
            );
        }
        assert!(allowed(&["https://a"], false).allow("https://a", None));
        assert!(!allowed(&["https://a"], false).allow("http://a", None));
        assert!(!allowed(&["https://a"], false).allow("https://a:1", None));
    }

    #[test]
    fn pages_of_the_server_itself_are_always_allowed() {
        let none = allowed(&[], false);
        for (origin, authority) in [
            ("http://db.example:8080", "db.example:8080"),
            ("http://db.example", "DB.example:80"),
            ("https://db.example", "db.example"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(none.allow(origin, Some(authority)), "{origin}");
        }
        for (origin, authority) in [
            ("http://db.example:8080", "db.example"),
            ("http://db.example", "db.example:8080"),
            ("http://evil.example", "db.example"),
            ("null", "null"),
            ("http://db.example", ""),
        ] {
            assert!(!none.allow(origin, Some(authority)), "{origin}");
        }
    }
}

//! `[puma]` of the configuration file: the control servers that are asked, and with which tokens.
//!
//! Apart from the other keys because a token is a secret: nothing here prints one, neither in an
//! error nor for debugging.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{
    Deserialize, Deserializer,
    de::{
        Error, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use crate::address::{Address, UnixName};

/// Each has a thread that asks it.
const MOST: usize = 32;
const LONGEST_TOKEN: usize = 1024;

/// One control server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PumaControl {
    #[serde(rename = "control_url", deserialize_with = "control_url")]
    pub address: Address,
    /// `None` where puma asks for none (`no_token: true`).
    #[serde(default, deserialize_with = "token")]
    pub token: Option<Token>,
}

/// What a control server asks for. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// As it goes into a request: puma compares it without decoding, so it cannot be encoded either.
    pub fn new(token: String) -> Result<Self, &'static str> {
        if token.is_empty() {
            return Err("token is empty; leave it out where puma asks for none");
        }
        if token.len() > LONGEST_TOKEN {
            return Err("token is over 1024 characters long; check the file");
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("token has a blank or another character that no request can carry");
        }
        Ok(Self(token))
    }

    /// For the request, and for nothing else.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

/// `[puma]`, or several `[[puma]]`.
pub(super) fn tables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<PumaControl>>, D::Error> {
    let controls = deserializer.deserialize_any(Tables)?;
    if controls.len() > MOST {
        return Err(D::Error::custom(format!(
            "there are {} tables [[puma]]; at most {MOST} are read",
            controls.len()
        )));
    }
    for (index, control) in controls.iter().enumerate() {
        let mut before = controls[..index].iter();
        if before.any(|other| other.address == control.address) {
            let address = &control.address;
            return Err(D::Error::custom(format!(
                "{address} is the control_url of two tables [[puma]]"
            )));
        }
    }
    Ok(Some(controls))
}

struct Tables;

impl<'de> Visitor<'de> for Tables {
    type Value = Vec<PumaControl>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table [puma] or tables [[puma]]")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        PumaControl::deserialize(MapAccessDeserializer::new(map)).map(|control| vec![control])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, tables: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(tables))
    }
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    // Through a value, because the error of a typed one would quote what it found.
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(token) => Token::new(token).map(Some).map_err(D::Error::custom),
        _ => Err(D::Error::custom("token is not a string; put it in quotes")),
    }
}

fn control_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    let url = String::deserialize(deserializer)?;
    address(&url).map_err(|error| D::Error::custom(format!("control_url {url:?}: {error}")))
}

/// Where a `control_url` of puma's leads.
fn address(url: &str) -> Result<Address, &'static str> {
    const FORMS: &str = "write unix:///PATH or tcp://127.0.0.1:PORT";
    if let Some(path) = url.strip_prefix("unix://") {
        return unix(path);
    }
    let address = url.strip_prefix("tcp://").ok_or(FORMS)?;
    let address: SocketAddr = address.parse().map_err(|_| FORMS)?;
    let ip: IpAddr = address.ip().to_canonical();
    if !ip.is_loopback() {
        return Err(
            "not a loopback address: the token would cross the network; let puma's \
                    control app listen on 127.0.0.1 or on a unix socket",
        );
    }
    if address.port() == 0 {
        return Err(FORMS);
    }
    Ok(Address::Tcp {
        ip,
        port: address.port(),
    })
}

fn unix(path: &str) -> Result<Address, &'static str> {
    if path.contains('\0') {
        return Err("a path without NUL characters is needed");
    }
    // As puma does: it takes a URL, which cannot hold a blank.
    let path = path.replace("%20", " ");
    let name = match path.strip_prefix('@') {
        Some("") => return Err("an abstract name is missing behind @"),
        Some(name) => UnixName::Abstract(name.as_bytes().to_vec()),
        None if path.starts_with('/') => UnixName::Path(path.into_bytes()),
        None => return Err("the path is not absolute; write unix:///PATH"),
    };
    Ok(Address::Unix(name))
}

#[cfg(test)]
mod tests {
    use super::{Address, PumaControl, Token, UnixName, address};
    use crate::config::Options;

    fn parse(text: &str) -> Result<Vec<PumaControl>, String> {
        Options::parse("r.toml".as_ref(), text)
            .map(|options| options.puma.unwrap_or_default())
            .map_err(|error| error.to_string())
    }

    fn tcp(ip: [u8; 4], port: u16) -> Address {
        let ip = ip.into();
        Address::Tcp { ip, port }
    }

    fn path(path: &str) -> Address {
        Address::Unix(UnixName::Path(path.into()))
    }

    #[test]
    fn urls_lead_where_pumactl_would_go() {
        let v6 = Address::Tcp {
            ip: std::net::Ipv6Addr::LOCALHOST.into(),
            port: 9293,
        };
        for (url, expected) in [
            (
                "unix:///run/app/pumactl.sock",
                path("/run/app/pumactl.sock"),
            ),
            ("unix:///my%20app/c", path("/my app/c")),
            (
                "unix://@puma ctl",
                Address::Unix(UnixName::Abstract(b"puma ctl".to_vec())),
            ),
            ("tcp://127.0.0.1:9293", tcp([127, 0, 0, 1], 9293)),
            ("tcp://127.9.9.9:1", tcp([127, 9, 9, 9], 1)),
            ("tcp://[::1]:9293", v6),
            ("tcp://[::ffff:127.0.0.1]:9293", tcp([127, 0, 0, 1], 9293)),
        ] {
            assert_eq!(address(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_with_what_to_write() {
        for (url, message) in [
            ("", "write unix:///PATH or tcp://127.0.0.1:PORT"),
            ("ssl://127.0.0.1:9293?key=x", "write unix:///PATH or"),
            ("/run/pumactl.sock", "write unix:///PATH or"),
            ("auto", "write unix:///PATH or"),
            ("tcp://localhost:9293", "tcp://127.0.0.1:PORT"),
            ("tcp://127.0.0.1", "tcp://127.0.0.1:PORT"),
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:PORT"),
            ("tcp://127.0.0.1:9293/", "tcp://127.0.0.1:PORT"),
            ("tcp://127.0.0.1:99999", "tcp://127.0.0.1:PORT"),
            ("tcp://10.0.0.1:9293", "not a loopback address"),
            ("tcp://0.0.0.0:9293", "not a loopback address"),
            ("tcp://[::]:9293", "not a loopback address"),
            ("tcp://[fe80::1]:9293", "not a loopback address"),
            ("unix://run/x.sock", "the path is not absolute"),
            ("unix://", "the path is not absolute"),
            ("unix://@", "an abstract name is missing"),
            ("unix:///a\0b", "without NUL"),
        ] {
            let error = address(url).unwrap_err();
            assert!(error.contains(message), "{url}: {error}");
        }
    }

    #[test]
    fn one_table_and_several_are_read() {
        let control = |address, token: Option<&str>| PumaControl {
            address,
            token: token.map(|token| Token::new(token.to_owned()).unwrap()),
        };
        let one = "[puma]\ncontrol_url = 'unix:///c'\ntoken = 'tok3n'\n";
        assert_eq!(parse(one), Ok(vec![control(path("/c"), Some("tok3n"))]));
        let two = "[[puma]]\ncontrol_url = 'unix:///c'\ntoken = 't'\n\
                   [[puma]]\ncontrol_url = 'tcp://127.0.0.1:9293'\n";
        let expected = vec![
            control(path("/c"), Some("t")),
            control(tcp([127, 0, 0, 1], 9293), None),
        ];
        assert_eq!(parse(two), Ok(expected));
        assert_eq!(parse("puma = []"), Ok(Vec::new()));
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    /// Check that mistakes are named where they are, and that no message holds the token.
    #[test]
    fn mistakes_are_named_without_the_token() {
        let url = "control_url = 'unix:///c'\n";
        let tables: String = (0..33)
            .map(|n| format!("[[puma]]\ncontrol_url = 'unix:///c{n}'\n"))
            .collect();
        for (text, message) in [
            (
                "[puma]\ntoken = 's3cret'".to_owned(),
                "missing field `control_url`",
            ),
            (
                format!("[puma]\n{url}tokn = 's3cret'"),
                "line 3, column 1: unknown field `tokn`, expected `control_url` or `token`",
            ),
            (
                format!("[puma]\n{url}token = 777333"),
                "line 3, column 9: token is not a string; put it in quotes",
            ),
            (format!("[puma]\n{url}token = s3cret"), "line 3"),
            (format!("[puma]\n{url}token = 's3cret"), "line 3"),
            (
                format!("[puma]\n{url}token = ['s3cret']"),
                "token is not a string",
            ),
            (format!("[puma]\n{url}token = ''"), "token is empty"),
            (
                format!("[puma]\n{url}token = 's3cret x'"),
                "token has a blank",
            ),
            (
                format!("[puma]\n{url}token = 's3crét'"),
                "token has a blank",
            ),
            (
                format!("[puma]\n{url}token = \"s3cret\\r\\nX: y\""),
                "token has a blank",
            ),
            (
                format!("[puma]\n{url}token = '{}'", "s3cret".repeat(200)),
                "token is over 1024 characters long",
            ),
            (
                "[puma]\ncontrol_url = 'tcp://10.0.0.1:80'\ntoken = 's3cret'".to_owned(),
                "line 2, column 15: control_url \"tcp://10.0.0.1:80\": not a loopback address",
            ),
            (
                format!("[[puma]]\n{url}[[puma]]\n{url}token = 's3cret'"),
                "/c is the control_url of two tables [[puma]]",
            ),
            (
                "puma = true".to_owned(),
                "expected a table [puma] or tables [[puma]]",
            ),
            (tables, "there are 33 tables [[puma]]; at most 32 are read"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains('\n'), "{error}");
            for secret in ["s3cr", "777333"] {
                assert!(!error.contains(secret), "{error}");
            }
        }
    }

    #[test]
    fn a_token_is_not_shown_for_debugging() {
        let options = parse("[puma]\ncontrol_url = 'unix:///c'\ntoken = 's3cret'").unwrap();
        let shown = format!("{options:?}");
        assert!(shown.contains("Token(not shown)"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

//! An address as one gives it to unicorn, in the form in which raindrops prints it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// As unicorn's `expand_addr` does, but for what only the one who asks could tell: a home directory, a
/// relative path, a name that has to be looked up. Such stay as they are.
#[must_use]
pub fn expanded(typed: &str) -> String {
    if let Some(path) = typed.strip_prefix("unix:") {
        return absolute(path);
    }
    if is_number(typed.strip_prefix("*:").unwrap_or(typed)) {
        return tcp("", typed.strip_prefix("*:").unwrap_or(typed)).unwrap_or(typed.to_owned());
    }
    let tcp = typed
        .rsplit_once(':')
        .and_then(|(host, port)| tcp(host, port));
    tcp.unwrap_or_else(|| absolute(typed))
}

fn tcp(host: &str, port: &str) -> Option<String> {
    let port: u16 = port.parse().ok().filter(|_| is_number(port))?;
    if let Some(v6) = host.strip_prefix('[') {
        let ip: Ipv6Addr = v6.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{ip}]:{port}"));
    }
    let ip = match host {
        "" | "*" => Ipv4Addr::UNSPECIFIED,
        "localhost" => Ipv4Addr::LOCALHOST,
        host => ipv4(host)?,
    };
    Some(format!("{ip}:{port}"))
}

/// As inet_aton(3) reads it: one to four numbers, the last of which fills what is left.
fn ipv4(host: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 0xff) {
        return None;
    }
    let room = 8 * (4 - first.len() as u32);
    if u64::from(*last) >> room != 0 {
        return None;
    }
    let high = first
        .iter()
        .fold(0_u64, |sum, part| sum << 8 | u64::from(*part));
    let bits = u32::try_from(high << room | u64::from(*last)).ok()?;
    Some(Ipv4Addr::from_bits(bits))
}

/// Decimal, 0x hexadecimal or 0 octal.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix('0') {
        None | Some("") => (text, 10),
        Some(rest) => match rest.strip_prefix(['x', 'X']) {
            Some(hexadecimal) => (hexadecimal, 16),
            None => (rest, 8),
        },
    };
    let is_plain = digits.bytes().all(|it| it.is_ascii_alphanumeric());
    u32::from_str_radix(digits, radix).ok().filter(|_| is_plain)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

/// Without `//`, `/./` and `/../`.
fn absolute(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::expanded;

    /// Check against what `Unicorn::SocketHelper` of 6.0.0 and its `expand_addr` made of them.
    #[test]
    fn addresses_are_those_of_unicorn() {
        for (typed, address) in [
            ("8080", "0.0.0.0:8080"),
            (":8080", "0.0.0.0:8080"),
            ("*:8080", "0.0.0.0:8080"),
            ("0:8080", "0.0.0.0:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("127.1:80", "127.0.0.1:80"),
            ("0x7f.1:80", "127.0.0.1:80"),
            ("2130706433:80", "127.0.0.1:80"),
            ("127.0.0.1:080", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[0:0::0]:80", "[::]:80"),
            ("unix:/x", "/x"),
            ("/a//b/./../c", "/a/c"),
            ("/..", "/"),
            ("@name", "@name"),
            ("host.example:80", "host.example:80"),
            ("1.2.3.4.5:80", "1.2.3.4.5:80"),
            ("256.1.1.1:80", "256.1.1.1:80"),
            ("1.2.3.256:80", "1.2.3.256:80"),
            ("127.0.0.1:99999", "127.0.0.1:99999"),
            ("99999", "99999"),
            ("127.0.0.1:+80", "127.0.0.1:+80"),
            ("[::1:80", "[::1:80"),
            ("", ""),
        ] {
            assert_eq!(expanded(typed), address, "{typed}");
        }
    }
}

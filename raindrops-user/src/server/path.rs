//! Request targets in parts: percent-decoding, and the few queries that are understood.
//!
//! Bytes of a client, so nothing here may fail other than by saying what is wrong.

use crate::render::json::Buckets;

/// Text of a percent-encoded part; what is not UTF-8 stays as `\xHH`, as the view prints it.
pub fn decoded(part: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(format!("{part:?} has a % without two hexadecimal digits"));
        };
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => crate::escape::escaped(error.as_bytes()),
    })
}

/// `buckets=1` or `buckets=0`, once.
pub fn buckets(query: Option<&str>) -> Result<Buckets, String> {
    let mut buckets = None;
    for pair in pairs(query) {
        let value = match pair {
            "buckets=1" => Buckets::Shown,
            "buckets=0" => Buckets::Hidden,
            other => return Err(format!("{other:?} is not understood")),
        };
        if buckets.replace(value).is_some() {
            return Err("buckets is given twice".to_owned());
        }
    }
    Ok(buckets.unwrap_or(Buckets::Hidden))
}

pub fn no_query(query: Option<&str>) -> Result<(), String> {
    match pairs(query).next() {
        None => Ok(()),
        Some(pair) => Err(format!("{pair:?} is not understood")),
    }
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = &str> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Buckets, buckets, decoded, no_query};

    #[test]
    fn parts_are_decoded() {
        for (part, text) in [
            ("/run/app.sock", "/run/app.sock"),
            ("%2Frun%2fapp.sock", "/run/app.sock"),
            ("[::]:80", "[::]:80"),
            ("%5B%3A%3A%5D%3A80", "[::]:80"),
            ("%C3%A9", "é"),
            ("%ff%01", "\\xff\\x01"),
            ("", ""),
        ] {
            assert_eq!(decoded(part).as_deref(), Ok(text), "{part}");
        }
        for part in ["%", "a%4", "%zz", "%é"] {
            assert!(decoded(part).is_err(), "{part}");
        }
    }

    #[test]
    fn queries_are_understood_or_refused() {
        for (query, result) in [
            (None, Ok(Buckets::Hidden)),
            (Some(""), Ok(Buckets::Hidden)),
            (Some("buckets=0"), Ok(Buckets::Hidden)),
            (Some("buckets=1"), Ok(Buckets::Shown)),
            (Some("buckets=2"), Err("\"buckets=2\" is not understood")),
            (Some("bucket=1"), Err("\"bucket=1\" is not understood")),
            (Some("buckets=1&buckets=1"), Err("buckets is given twice")),
        ] {
            assert_eq!(buckets(query), result.map_err(str::to_owned), "{query:?}");
        }
        assert_eq!(no_query(None), Ok(()));
        assert!(no_query(Some("x=1")).is_err());
    }
}

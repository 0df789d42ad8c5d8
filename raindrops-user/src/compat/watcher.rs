//! Pages of Raindrops::Watcher: headers and bodies as it writes them, rendered for each request.

use std::{fmt::Write as _, time::SystemTime};

use super::{
    aggregate::ruby_float,
    record::{Series, Told},
    rows::{Row, Titles},
};

/// Time between samples.
pub const DELAY: std::time::Duration = std::time::Duration::from_secs(1);

const DOCUMENTATION: &str = "https://yhbt.net/raindrops/Raindrops/Watcher.html";

/// Header lines in their order, and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// Times of HTTP.
#[must_use]
pub fn http_date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

fn figures(told: &Told) -> Vec<(&'static str, String)> {
    let Told {
        series:
            Series {
                aggregate,
                first_peak,
                last_peak,
                current,
            },
        reset_at,
        sampled_at: _,
    } = told;
    let number = |it: Option<u64>| it.map_or_else(String::new, |it| it.to_string());
    vec![
        ("X-Count", aggregate.count().to_string()),
        ("X-Min", number(aggregate.min())),
        ("X-Max", number(aggregate.max())),
        ("X-Mean", ruby_float(aggregate.mean())),
        ("X-Std-Dev", ruby_float(aggregate.std_dev())),
        ("X-Outliers-Low", aggregate.outliers_low().to_string()),
        ("X-Outliers-High", aggregate.outliers_high().to_string()),
        ("X-Last-Reset", http_date(*reset_at)),
        ("X-Current", number(*current)),
        ("X-First-Peak-At", http_date(*first_peak)),
        ("X-Last-Peak-At", http_date(*last_peak)),
    ]
}

/// `/active/L.txt` and `/queued/L.txt`.
#[must_use]
pub fn text(told: &Told) -> Page {
    let mut headers = figures(told);
    headers.push(("Content-Type", "text/plain".to_owned()));
    headers.push(("Expires", http_date(told.sampled_at + DELAY)));
    Page {
        headers,
        body: told.series.aggregate.to_string(),
    }
}

/// `/active/L.html` and `/queued/L.html`, with what the listener was asked for as.
#[must_use]
pub fn html(told: &Told, host: &str, name: &str) -> Page {
    let mut headers = figures(told);
    let mut body = format!(
        "<html><head><title>{} - {}</title></head><body><table>",
        html_escaped(host),
        html_escaped(name)
    );
    for (header, value) in &headers {
        let header = header.trim_start_matches("X-");
        let value = html_escaped(value);
        let _ = write!(body, "<tr><td>{header}</td><td>{value}</td></tr>");
    }
    let _ = write!(
        body,
        "</table><pre>{}</pre><form action='../reset/{}' method='post'>\
         <input type='submit' name='x' value='reset' /></form></body>",
        html_escaped(&told.series.aggregate.to_string()),
        url_escaped(name)
    );
    headers.push(("Content-Type", "text/html".to_owned()));
    headers.push(("Expires", http_date(told.sampled_at + DELAY)));
    Page { headers, body }
}

/// `/watcher/`: all listeners, by their names.
#[must_use]
pub fn index(rows: &[Row], host: &str, at: SystemTime) -> Page {
    let mut body = format!(
        "<html><head><title>{} - all interfaces</title></head><body><h3>Updated at {}</h3>\
         <table><tr><th>address</th><th>active</th><th>queued</th><th>reset</th></tr>",
        html_escaped(host),
        humantime::format_rfc3339_seconds(at)
    );
    let titles = Titles::of(rows);
    let mut named: Vec<(&str, &Row)> = rows.iter().map(|row| (titles.title(row), row)).collect();
    named.sort_by_key(|(name, row)| (*name, row.netns));
    let figure = |it: Option<u64>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
    for (name, row) in named {
        let link = url_escaped(name);
        // One that is called by its id has its address behind it.
        let address = if name == row.address {
            String::new()
        } else {
            format!(" {}", html_escaped(&row.address))
        };
        let _ = write!(
            body,
            "<tr><td><a href='tail/{link}.txt' \
             title='&quot;tail&quot; output in real time'>{}</a>{address}</td>\
             <td><a href='active/{link}.html' title='show active connection stats'>{}</a></td>\
             <td><a href='queued/{link}.html' title='show queued connection stats'>{}</a></td>\
             <td><form action='reset/{link}' method='post'>\
             <input title='reset statistics' type='submit' name='x' value='x' /></form></td></tr>",
            html_escaped(name),
            figure(row.active),
            figure(row.queued)
        );
    }
    let _ = write!(
        body,
        "</table><p>This is raindrops, which answers as Raindrops::Watcher does, see \
         <a href='{DOCUMENTATION}'>{DOCUMENTATION}</a> for more information.</p></body></html>"
    );
    Page {
        headers: vec![
            ("Content-Type", "text/html".to_owned()),
            ("Last-Modified", http_date(at)),
            ("Expires", http_date(at + DELAY)),
        ],
        body,
    }
}

/// As Rack::Utils.escape_html does.
#[must_use]
pub fn html_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#x27;"),
            '"' => out.push_str("&quot;"),
            '/' => out.push_str("&#x2F;"),
            character => out.push(character),
        }
    }
    out
}

/// As Rack::Utils.escape does, but for a blank, which in a path is `%20` to everybody.
#[must_use]
pub fn url_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{html, index, text, url_escaped};
    use crate::compat::{
        record::{Figure, Record},
        rows::Row,
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_309_246 + seconds)
    }

    fn row(address: &str) -> Row {
        Row {
            netns: 1,
            address: address.to_owned(),
            is_tcp: !address.starts_with('/'),
            ids: vec!["1:17".to_owned()],
            active: None,
            queued: Some(0),
        }
    }

    #[test]
    fn headers_are_those_of_watcher() {
        let mut record = Record::new(at(0));
        record.note(&[row("a:1")], at(1));
        let told = record.told(Some(&row("a:1").name()), Figure::Queued);
        let page = text(&told);
        let headers: Vec<String> = page
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        assert_eq!(
            headers,
            [
                "X-Count: 1",
                "X-Min: 0",
                "X-Max: 0",
                "X-Mean: 0.0",
                "X-Std-Dev: NaN",
                "X-Outliers-Low: 1",
                "X-Outliers-High: 0",
                "X-Last-Reset: Sun, 22 Nov 2026 01:00:46 GMT",
                "X-Current: 0",
                "X-First-Peak-At: Sun, 22 Nov 2026 01:00:46 GMT",
                "X-Last-Peak-At: Sun, 22 Nov 2026 01:00:46 GMT",
                "Content-Type: text/plain",
                "Expires: Sun, 22 Nov 2026 01:00:48 GMT",
            ]
        );
        assert_eq!(page.body, "Empty histogram");
        let unknown = text(&record.told(None, Figure::Active));
        let value = |name: &str| {
            let found = unknown.headers.iter().find(|(header, _)| *header == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(
            ["X-Count", "X-Min", "X-Mean", "X-Current"].map(value),
            [Some("0"), Some(""), Some("NaN"), Some("")]
        );
    }

    #[test]
    fn nothing_of_a_name_gets_into_html() {
        let hostile = "/tmp/'><script>\"&.sock";
        let rows = [row(hostile)];
        let record = Record::new(at(0));
        let told = record.told(None, Figure::Active);
        for body in [
            index(&rows, "h<b>", at(0)).body,
            html(&told, "h<b>", hostile).body,
        ] {
            for part in ["<script", "<b>", "tmp/'", "\"&."] {
                assert!(!body.contains(part), "{part}: {body}");
            }
            assert!(body.contains("%2Ftmp%2F%27%3E%3Cscript%3E%22%26.sock"));
        }
    }

    #[test]
    fn names_are_escaped_for_paths() {
        for (name, escaped) in [
            ("127.0.0.1:80", "127.0.0.1%3A80"),
            ("[::1]:80", "%5B%3A%3A1%5D%3A80"),
            ("/a b+é*", "%2Fa%20b%2B%C3%A9*"),
        ] {
            assert_eq!(url_escaped(name), escaped);
        }
    }
}

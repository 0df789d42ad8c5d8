//! What a process says it is: the forms of the titles that known servers give themselves.
//!
//! Apart because a title is whatever its process likes. A form is a claim, and only the process
//! tree ([`super`]) can make it a fact; and only what has one of these forms is shown, because a
//! command line can hold secrets.

use super::Kind;
use crate::escape::escaped;

/// Characters of a title that are shown.
const SHOWN: usize = 256;

/// A claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub kind: Kind,
    pub part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A master; `old` once it has started its successor. In puma also a server without workers.
    Master {
        old: bool,
    },
    Worker {
        index: Option<u32>,
    },
    /// Belongs to a server and does not serve.
    Helper,
    /// Started as a server's command, and has not named itself (yet).
    Command,
}

impl Form {
    pub fn of(title: &[u8]) -> Option<Self> {
        unicorn(title)
            .or_else(|| puma(title))
            .or_else(|| nginx(title))
            .or_else(|| gunicorn(title))
            .or_else(|| command(title))
    }

    /// A command line may hold anything; a title that the server wrote does not.
    const fn is_title(self) -> bool {
        !matches!(self.part, Part::Command)
    }
}

/// What to call a process: its title where it has a known form, else the comm.
pub(super) fn display(title: Option<&[u8]>, comm: &[u8]) -> String {
    let shown = title
        .filter(|title| Form::of(title).is_some_and(Form::is_title))
        .unwrap_or(comm);
    // Escaping never makes a text shorter, so what is beyond this many bytes is not shown anyway.
    let mut text = escaped(&shown[..shown.len().min(4 * SHOWN)]);
    if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(cut);
    }
    text
}

/// `unicorn master -c …`, `unicorn master (old) …`, `unicorn worker[0] …`; Rainbows! too.
fn unicorn(title: &[u8]) -> Option<Form> {
    let (name, rest) = word(title);
    let kind = match name {
        b"unicorn" | b"unicorn_rails" => Kind::Unicorn,
        b"rainbows" => Kind::Rainbows,
        _ => return None,
    };
    let (role, rest) = word(rest);
    let part = match role {
        b"master" => Part::Master {
            old: word(rest).0 == b"(old)",
        },
        _ => Part::Worker {
            index: number(role.strip_prefix(b"worker[")?.strip_suffix(b"]")?)?,
        },
    };
    Some(Form { kind, part })
}

/// `puma 5.6.5 (tcp://…) [tag]`, `puma: cluster worker 0: MASTERPID [tag]`.
fn puma(title: &[u8]) -> Option<Form> {
    let part = if let Some(rest) = title.strip_prefix(b"puma: cluster worker ") {
        let (index, rest) = word(rest);
        number(word(rest).0)?;
        Part::Worker {
            index: number(index.strip_suffix(b":")?)?,
        }
    } else {
        let (version, rest) = word(title.strip_prefix(b"puma ")?);
        if !version.first().is_some_and(u8::is_ascii_digit) || !rest.starts_with(b"(") {
            return None;
        }
        Part::Master { old: false }
    };
    Some(Form {
        kind: Kind::Puma,
        part,
    })
}

fn nginx(title: &[u8]) -> Option<Form> {
    let part = match title.strip_prefix(b"nginx: ")? {
        b"worker process" | b"worker process is shutting down" => Part::Worker { index: None },
        b"cache manager process" | b"cache loader process" | b"privileged agent process" => {
            Part::Helper
        }
        rest if rest == b"master process" || rest.starts_with(b"master process ") => {
            Part::Master { old: false }
        }
        _ => return None,
    };
    Some(Form {
        kind: Kind::Nginx,
        part,
    })
}

/// `gunicorn: master [app]`, where setproctitle is installed.
fn gunicorn(title: &[u8]) -> Option<Form> {
    let rest = title.strip_prefix(b"gunicorn: ")?;
    let part = if rest.starts_with(b"master [") {
        Part::Master { old: false }
    } else if rest.starts_with(b"worker [") {
        Part::Worker { index: None }
    } else {
        return None;
    };
    Some(Form {
        kind: Kind::Gunicorn,
        part,
    })
}

/// `/usr/bin/python3 /usr/bin/gunicorn …`, `python3 -m gunicorn …`, `ruby bundle exec puma …`.
fn command(title: &[u8]) -> Option<Form> {
    let mut words = title.split(|&byte| byte == b' ').take(8).map(base);
    let mut name = words.next()?;
    if name.starts_with(b"python") || name.starts_with(b"pypy") || name.starts_with(b"ruby") {
        name = words.find(|word| !word.starts_with(b"-"))?;
    }
    if matches!(name, b"bundle" | b"bundler") {
        name = words
            .next()
            .filter(|&word| word == b"exec")
            .and(words.next())?;
    }
    let kind = match name {
        b"unicorn" | b"unicorn_rails" => Kind::Unicorn,
        b"rainbows" => Kind::Rainbows,
        b"puma" => Kind::Puma,
        b"nginx" => Kind::Nginx,
        b"gunicorn" => Kind::Gunicorn,
        _ => return None,
    };
    Some(Form {
        kind,
        part: Part::Command,
    })
}

fn base(word: &[u8]) -> &[u8] {
    word.rsplit(|&byte| byte == b'/').next().unwrap_or(word)
}

/// Up to the first space, and what is behind it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    text.iter()
        .position(|&byte| byte == b' ')
        .map_or((text, &[]), |space| (&text[..space], &text[space + 1..]))
}

/// `None` where these are not digits, `Some(None)` where they are too many.
fn number(digits: &[u8]) -> Option<Option<u32>> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(digits).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{Form, Part, display};
    use crate::view::servers::Kind::{self, Gunicorn, Nginx, Puma, Rainbows, Unicorn};

    const MASTER: Part = Part::Master { old: false };
    const OLD: Part = Part::Master { old: true };

    const fn worker(index: u32) -> Part {
        Part::Worker { index: Some(index) }
    }

    #[test]
    fn knows_the_forms_of_known_servers() {
        let unnumbered = Part::Worker { index: None };
        let table: &[(&str, Kind, Part)] = &[
            (
                "unicorn master -c unicorn.conf.rb config.ru",
                Unicorn,
                MASTER,
            ),
            ("unicorn master", Unicorn, MASTER),
            (
                "unicorn master (old) -c unicorn.conf.rb config.ru",
                Unicorn,
                OLD,
            ),
            (
                "unicorn worker[0] -c unicorn.conf.rb config.ru",
                Unicorn,
                worker(0),
            ),
            (
                "unicorn_rails worker[31] -E production",
                Unicorn,
                worker(31),
            ),
            (
                "unicorn worker[99999999999999999999] x",
                Unicorn,
                unnumbered,
            ),
            (
                "rainbows master -c rainbows.conf.rb config.ru",
                Rainbows,
                MASTER,
            ),
            (
                "rainbows worker[1] -c rainbows.conf.rb config.ru",
                Rainbows,
                worker(1),
            ),
            (
                "puma 5.6.5 (tcp://127.0.0.1:18181) [fixtures]",
                Puma,
                MASTER,
            ),
            ("puma: cluster worker 1: 8720 [fixture]", Puma, worker(1)),
            ("puma: cluster worker 0: 8720", Puma, worker(0)),
            (
                "nginx: master process nginx -p /tmp/x -c /tmp/x/nginx.conf",
                Nginx,
                MASTER,
            ),
            ("nginx: worker process", Nginx, unnumbered),
            ("nginx: worker process is shutting down", Nginx, unnumbered),
            ("nginx: cache manager process", Nginx, Part::Helper),
            ("gunicorn: master [wsgi:app]", Gunicorn, MASTER),
            ("gunicorn: worker [wsgi:app]", Gunicorn, unnumbered),
            (
                "/usr/bin/python3 /usr/bin/gunicorn -w 2 wsgi:app",
                Gunicorn,
                Part::Command,
            ),
            (
                "python3.11 -u -m gunicorn wsgi:app",
                Gunicorn,
                Part::Command,
            ),
            (
                "/usr/bin/ruby3.1 /usr/bin/unicorn -c u.rb",
                Unicorn,
                Part::Command,
            ),
            (
                "ruby /usr/bin/bundle exec puma -C puma.rb",
                Puma,
                Part::Command,
            ),
            (
                "nginx -g daemon off; master_process off;",
                Nginx,
                Part::Command,
            ),
        ];
        for &(title, kind, part) in table {
            assert_eq!(
                Form::of(title.as_bytes()),
                Some(Form { kind, part }),
                "{title}"
            );
        }
    }

    #[test]
    fn knows_what_has_no_form() {
        for title in [
            "",
            " ",
            "unicorn",
            "unicornmaster",
            "unicorn worker[]",
            "unicorn worker[-1]",
            "unicorn worker[+1]",
            "unicorn worker[0",
            "unicorn worker[0]x",
            "xunicorn master",
            "puma five (tcp://x)",
            "puma 5.6.5",
            "puma: cluster worker : 1",
            "puma: cluster worker 0: x",
            "nginx: worker process --password=x",
            "nginx: masterful",
            "sh -c gunicorn wsgi:app",
            "python3 manage.py gunicorn",
            "vim /usr/bin/unicorn",
            "bundle exec rake",
        ] {
            let form = Form::of(title.as_bytes()).filter(|form| form.is_title());
            assert_eq!(form, None, "{title}");
        }
    }

    #[test]
    fn shows_only_titles_that_have_a_form() {
        let long = format!("unicorn master {}", "é\n".repeat(2000));
        let shown = display(Some(long.as_bytes()), b"ruby");
        assert_eq!(shown.chars().count(), 256);
        assert!(shown.starts_with("unicorn master é\\né\\n"));
        for (title, expected) in [
            (Some(&b"nginx: worker process"[..]), "nginx: worker process"),
            (
                Some(b"unicorn master \x1b[31m\xff"),
                "unicorn master \\x1b[31m\\xff",
            ),
            (
                Some(b"/usr/bin/python3 /usr/bin/gunicorn -e KEY=secret"),
                "a\\nb",
            ),
            (Some(b"myapp --password=secret"), "a\\nb"),
            (None, "a\\nb"),
        ] {
            assert_eq!(display(title, b"a\nb"), expected);
        }
    }
}

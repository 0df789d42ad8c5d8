//! A diagnosis for a person: one line for a healthy host, and what is worth knowing of it.

use std::{collections::BTreeMap, io};

use super::{
    table::{Paint, wrap},
    text::Style,
};
use crate::{
    diagnose::{Diagnosis, HostSource, Severity},
    escape::printable,
    view::SourceState,
};

pub fn text(diagnosis: &Diagnosis, style: Style, out: &mut impl io::Write) -> io::Result<()> {
    let whole = diagnosis
        .host
        .iter()
        .all(|source| source.state == SourceState::On);
    if diagnosis.worst() < Some(Severity::Warning) {
        let names: Vec<&str> = diagnosis.host.iter().map(|it| it.source.as_str()).collect();
        let sources = if whole {
            format!("; all sources are on ({})", names.join(", "))
        } else {
            ", as far as can be seen".to_owned()
        };
        let remarks = diagnosis.host.iter().flat_map(remarks);
        let remarks: String = remarks.map(|it| format!("; {}", printable(&it))).collect();
        let remarks = if whole { remarks } else { String::new() };
        let line = format!("Nothing is wrong{sources}{remarks}.");
        writeln!(out, "{}", wrap(&line, style.width, 2))?;
    }
    for verdict in &diagnosis.verdicts {
        let paint = match verdict.severity {
            Severity::Critical => Paint::Bad,
            Severity::Warning => Paint::Warn,
            Severity::Info => Paint::Plain,
        };
        let head = format!("{} {}:", verdict.severity, verdict.verdict);
        let text = wrap(
            &format!("{head} {}", printable(&verdict.text)),
            style.width,
            2,
        );
        let body = text.strip_prefix(&head).unwrap_or_default();
        writeln!(out, "{}{body}", paint.on(&head, style.color))?;
        let next = format!("  next: {}", printable(&verdict.next));
        writeln!(out, "{}", wrap(&next, style.width, 4))?;
    }
    if whole {
        return Ok(());
    }
    for source in &diagnosis.host {
        let (state, paint) = match source.state {
            SourceState::On => ("on", Paint::Plain),
            SourceState::Degraded => ("degraded", Paint::Warn),
            SourceState::Off => ("off", Paint::Warn),
        };
        let head = format!("source {}: {state}", printable(&source.source));
        let mut tail = String::new();
        for more in source.reason.clone().into_iter().chain(remarks(source)) {
            tail.push_str("; ");
            tail.push_str(&printable(&more));
        }
        let text = wrap(&format!("{head}{tail}"), style.width, 2);
        let body = text.strip_prefix(&head).unwrap_or_default();
        writeln!(out, "{}{body}", paint.on(&head, style.color))?;
        if let Some(grant) = &source.grant {
            let grant = format!("  to turn it on: {}", printable(grant));
            writeln!(out, "{}", wrap(&grant, style.width, 4))?;
        }
    }
    Ok(())
}

/// What a source that works has to say of itself.
fn remarks(source: &HostSource) -> impl Iterator<Item = String> {
    let details = ["cost", "found_later"].into_iter();
    let details = details.filter_map(|name| source.detail.get(name).cloned());
    details.chain(without_turns(&source.detail))
}

/// Why turns are not followed, or not wholly, and what would change that; of the source that would.
pub(super) fn without_turns(detail: &BTreeMap<String, String>) -> Option<String> {
    let turns = detail.get("turns").filter(|way| way.contains(": "))?;
    Some(format!("turns: {turns}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Style, text};
    use crate::{
        diagnose::{Diagnosis, Severity, Subject, Verdict, diagnose},
        view::{SourceState, View},
    };

    fn view() -> View {
        serde_json::from_str(include_str!("../../tests/data/view.json")).unwrap()
    }

    fn rendered(diagnosis: &Diagnosis, width: usize) -> String {
        let style = Style {
            color: false,
            width: Some(width),
        };
        let mut out = Vec::new();
        text(diagnosis, style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn trouble_comes_with_what_to_do_and_what_is_not_seen() {
        assert_eq!(
            rendered(&diagnose(&view()), 80),
            "\
critical queue-dropping: 127.0.0.1:18080 dropped 32 connection attempts (retries
  counted) in the last 10 s, 153 since 2026-11-22T00:00:00Z: its queue of 8 (the
  app's listen backlog) was full
  next: see whether its workers are stuck or too few; then raise the app's
    listen backlog (unicorn: listen …, backlog: N) or add workers
warning blind: some numbers cannot be trusted: connections not tracked: map full
  (136)
  next: raise --max-connections
source bpf: degraded; sk_data_ready is not a tracepoint of this kernel:
  listeners are told apart by address
source sock_diag: on
source proc: off; permission denied reading /proc/14387/fd
  to turn it on: CAP_SYS_PTRACE, or run as root
"
        );
    }

    #[test]
    fn a_healthy_host_gets_one_line() {
        let mut view = view();
        view.listeners.clear();
        view.gaps.clear();
        for source in &mut view.sources {
            source.state = SourceState::On;
        }
        assert_eq!(
            rendered(&diagnose(&view), 80),
            "Nothing is wrong; all sources are on (bpf, sock_diag, proc).\n"
        );
        let turns = &mut view.sources[0].detail;
        turns.insert("turns".to_owned(), "off: it is an old kernel".to_owned());
        assert_eq!(
            rendered(&diagnose(&view), 80),
            "\
Nothing is wrong; all sources are on (bpf, sock_diag, proc); turns: off: it is
  an old kernel.
"
        );
        view.sources[0].state = SourceState::Off;
        let text = rendered(&diagnose(&view), 80);
        assert!(text.starts_with("Nothing is wrong, as far as can be seen.\nsource bpf: off"));
    }

    #[test]
    fn what_is_only_worth_knowing_comes_after_that_nothing_is_wrong() {
        let mut view = view();
        view.listeners.clear();
        view.gaps.clear();
        for source in &mut view.sources {
            source.state = SourceState::On;
        }
        let mut diagnosis = diagnose(&view);
        diagnosis.verdicts.push(Verdict {
            verdict: "queue-full".to_owned(),
            severity: Severity::Info,
            subject: Subject::default(),
            since: None,
            text: "0.0.0.0:80: its queue has been full for less than a second".to_owned(),
            evidence: BTreeMap::new(),
            next: "look again in a second".to_owned(),
        });
        assert_eq!(
            rendered(&diagnosis, 80),
            "\
Nothing is wrong; all sources are on (bpf, sock_diag, proc).
info queue-full: 0.0.0.0:80: its queue has been full for less than a second
  next: look again in a second
"
        );
    }
}

//! The paths of older clients: raindrops' Middleware, Watcher and LastDataRecv, puma's control server.
//!
//! Apart from `route` because they are other projects' rules: any method where those take any, errors
//! in their words, answers that do not end. The bodies are made in [`crate::compat`].

mod lines;
mod place;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use http_body_util::Either;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_TYPE, EXPIRES, HeaderName, HeaderValue, LOCATION,
        REFERER,
    },
};
use tokio::{sync::watch, time::Instant};

pub use self::place::{PATHS, is_theirs};
use self::{
    lines::{Moment, Snapshot, Tail},
    place::{Form, Place, place},
};
use super::{
    Made, Sources,
    answer::{Answer, JSON, answer, error, of_age},
    lines, path,
    peer::Peer,
};
use crate::{
    compat::{
        last_data_recv, middleware,
        puma::{self, Command},
        record::{Figure, Record},
        rows::{self, Row, RowError, Titles},
        tail::Thresholds,
        tokens::Tokens,
        watcher::{self, Page},
    },
    diagnose,
    publish::{Hub, Published},
    select,
    view::View,
};

/// A sample is taken of the first view that is so much younger than the last one's. Views come every
/// second or every tenth of one, so it is a second, and a view that is early is not missed.
const APART: Duration = Duration::from_millis(950);

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");
const RESET_RULE: &str = "only root and the user that runs the daemon may reset its statistics";

const PATH_HINT: &str = "encode % as %25";
const QUERY_HINT: &str = "the only query is ?listener=LISTENER, which may be repeated; encode & as %26 \
                       and % as %25";

/// What is kept for older clients.
#[derive(Debug)]
pub struct Compat {
    record: Mutex<Record>,
    moments: watch::Sender<Moment>,
    tokens: Mutex<Option<Arc<Tokens>>>,
}

impl Default for Compat {
    fn default() -> Self {
        Self {
            record: Mutex::new(Record::new(SystemTime::now())),
            moments: watch::Sender::new(Moment::Before),
            tokens: Mutex::default(),
        }
    }
}

impl Compat {
    /// `None`: no file of tokens is configured.
    pub fn set_tokens(&self, tokens: Option<Tokens>) {
        *lock(&self.tokens) = tokens.map(Arc::new);
    }

    /// Ends all answers that would not end by themselves.
    pub fn end(&self) {
        self.moments.send_replace(Moment::Over);
    }

    fn sample(&self, view: &View) {
        let snapshot = Snapshot {
            at: view.taken_at,
            rows: rows::rows(view),
        };
        lock(&self.record).note(&snapshot.rows, snapshot.at);
        self.moments.send_replace(Moment::At(Arc::new(snapshot)));
    }
}

/// What these locks guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes samples of the views that are published, until it is dropped.
pub async fn record(sources: Arc<Sources>) {
    let Sources { hub, compat, .. } = &*sources;
    let mut last: Option<(Instant, Arc<Published>)> = None;
    loop {
        // Before the look: a view that is published in between is not missed.
        let replaced = hub.replaced();
        if let Some(latest) = hub.peeked()
            && last
                .as_ref()
                .is_none_or(|(at, before)| at.elapsed() >= APART && !Arc::ptr_eq(before, &latest))
        {
            compat.sample(latest.view());
            last = Some((Instant::now(), latest));
        }
        replaced.await;
    }
}

/// These clients take every figure for a current one: of a view older than `stale` they get none.
pub fn respond<B>(
    request: &Request<B>,
    hub: &Hub,
    compat: &Compat,
    peer: Peer,
    stale: Duration,
) -> Response<Made> {
    let Some(published) = hub.latest() else {
        let hint = "the daemon is starting: ask again in a second";
        let none = error(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no view yet",
            hint,
        );
        return none.map(Either::Left);
    };
    let (view, age) = (published.view(), published.age());
    if age > stale {
        let hint = "see the daemon's log and whether the host thrashes, then restart the daemon";
        let old = error(StatusCode::SERVICE_UNAVAILABLE, &diagnose::stale(age), hint);
        return of_age(old, age).map(Either::Left);
    }
    let query = request.uri().query();
    let answer = match place(request.uri().path()) {
        Some(Place::Middleware) => middleware(view, query),
        Some(Place::LastDataRecv) => last_data_recv(view, query),
        Some(Place::Puma(command)) => puma(view, compat, command, query),
        Some(place) => match watcher(request, view, compat, &place, peer) {
            Ok(answer) => answer,
            Err(endless) => return tail(endless),
        },
        None => not_found(),
    };
    of_age(answer, age).map(Either::Left)
}

fn middleware(view: &View, query: Option<&str>) -> Answer {
    match chosen(view, query) {
        Ok(only) => text(StatusCode::OK, middleware::text(view, only.as_deref())),
        Err(why) => refused(view, why, QUERY_HINT),
    }
}

fn last_data_recv(view: &View, query: Option<&str>) -> Answer {
    let rows = match chosen(view, query) {
        Ok(Some(rows)) => rows,
        Ok(None) => {
            let home = rows::home(view);
            let mut rows = rows::rows(view);
            rows.retain(|row| home.is_none_or(|home| row.netns == home));
            rows
        }
        Err(why) => return refused(view, why, QUERY_HINT),
    };
    let rows: Vec<&Row> = rows.iter().collect();
    match last_data_recv::page(view, &rows) {
        Some(page) => self::page(page),
        None => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "how long connections wait is not known here",
            "it needs a TCP listener and the source bpf; `raindrops doctor` says why that is off",
        ),
    }
}

/// The rows that `?listener=` names; `None` where it names none.
fn chosen(view: &View, query: Option<&str>) -> Result<Option<Vec<Row>>, Unfound> {
    let typed = path::only_listeners(query).map_err(Unfound::NotText)?;
    if typed.is_empty() {
        return Ok(None);
    }
    let rows = rows::rows(view);
    let mut chosen: Vec<Row> = Vec::new();
    for typed in typed {
        let row = rows::find(&rows, &typed).map_err(Unfound::NotOne)?;
        if !chosen.contains(row) {
            chosen.push(row.clone());
        }
    }
    Ok(Some(chosen))
}

fn not_one(view: &View, why: &RowError) -> Answer {
    match why {
        RowError::Ambiguous { ids, .. } => error(
            StatusCode::CONFLICT,
            &why.to_string(),
            &format!(
                "name one of these ids: {}",
                select::some_of(ids.iter().map(String::as_str))
            ),
        ),
        RowError::Unknown { .. } => error(
            StatusCode::NOT_FOUND,
            &why.to_string(),
            &format!(
                "listening: {}",
                select::some_of(view.listeners.iter().map(|it| it.address.as_str()))
            ),
        ),
    }
}

fn puma(view: &View, compat: &Compat, command: Command, query: Option<&str>) -> Answer {
    let tokens = lock(&compat.tokens).clone();
    let mut answer = match puma::answer(view, tokens.as_deref(), command, query) {
        puma::Answer::Stats(stats) => answer(StatusCode::OK, JSON, stats.into()),
        puma::Answer::WrongToken => text(StatusCode::FORBIDDEN, puma::WRONG_TOKEN.to_owned()),
        puma::Answer::Nothing(why) => text(StatusCode::NOT_FOUND, why),
    };
    // As puma does. pumactl reads to the end of the stream.
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
}

/// `Err` is an answer that does not end.
fn watcher<B>(
    request: &Request<B>,
    view: &View,
    compat: &Compat,
    place: &Place<'_>,
    peer: Peer,
) -> Result<Answer, Tail> {
    let method = request.method();
    let is_read = method == Method::GET || method == Method::HEAD;
    if !is_read && method != Method::POST {
        let what = "Method Not Allowed".to_owned();
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, what));
    }
    let rows = rows::rows(view);
    Ok(match place {
        Place::Index if is_read => page(watcher::index(&rows, &view.host.name, view.taken_at)),
        Place::Page(figure, form, name) if is_read => {
            statistics(view, compat, &rows, *figure, *form, name)
        }
        Place::Tail(name) if is_read => match found(&rows, name) {
            Ok((Some(row), _)) => {
                let title = Titles::of(&rows).title(row).to_owned();
                let name = (row.name(), title);
                let thresholds = thresholds(request.uri().query());
                return Err(Tail::new(compat.moments.subscribe(), name, thresholds));
            }
            Ok((None, _)) => not_found(),
            Err(why) => refused(view, why, PATH_HINT),
        },
        Place::Reset(name) if !is_read => match found(&rows, name) {
            Ok((Some(row), _)) => reset(request, compat, row, peer),
            Ok((None, _)) => not_found(),
            Err(why) => refused(view, why, PATH_HINT),
        },
        _ => not_found(),
    })
}

fn statistics(
    view: &View,
    compat: &Compat,
    rows: &[Row],
    figure: Figure,
    form: Form,
    name: &str,
) -> Answer {
    let (row, name) = match found(rows, name) {
        Ok(found) => found,
        Err(why) => return refused(view, why, PATH_HINT),
    };
    let told = lock(&compat.record).told(row.map(Row::name).as_ref(), figure);
    page(match form {
        Form::Text => watcher::text(&told),
        Form::Html => watcher::html(&told, &view.host.name, &name),
    })
}

fn reset<B>(request: &Request<B>, compat: &Compat, row: &Row, peer: Peer) -> Answer {
    if !peer.is_trusted() {
        return error(
            StatusCode::FORBIDDEN,
            RESET_RULE,
            "ask as one of them, as in `sudo curl`",
        );
    }
    if !lock(&compat.record).reset(&row.name(), SystemTime::now()) {
        return not_found();
    }
    // Without a Referer to where its link is: both indexes are one level up.
    let back = HeaderValue::from_static("/watcher/");
    let back = request.headers().get(REFERER).cloned().unwrap_or(back);
    let told = format!(
        "Redirecting to {}",
        String::from_utf8_lossy(back.as_bytes())
    );
    let mut answer = text(StatusCode::FOUND, told);
    answer.headers_mut().insert(LOCATION, back);
    answer
}

enum Unfound {
    NotText(String),
    NotOne(RowError),
}

/// The listener that a part of a path names, and that name. In a form a `+` is a blank, in a path it
/// is none: who encodes as forms do is understood, too.
fn found<'r>(rows: &'r [Row], part: &str) -> Result<(Option<&'r Row>, String), Unfound> {
    let decoded = |part: &str| path::decoded(part).map_err(Unfound::NotText);
    let name = decoded(part)?;
    let mut names = vec![name.clone()];
    if part.contains('+') {
        names.push(decoded(&part.replace('+', " "))?);
    }
    for name in names {
        match rows::find(rows, &name) {
            Ok(row) => return Ok((Some(row), name)),
            Err(RowError::Unknown { .. }) => {}
            Err(why) => return Err(Unfound::NotOne(why)),
        }
    }
    Ok((None, name))
}

fn refused(view: &View, why: Unfound, hint: &str) -> Answer {
    match why {
        Unfound::NotText(what) => error(StatusCode::BAD_REQUEST, &what, hint),
        Unfound::NotOne(why) => not_one(view, &why),
    }
}

/// What is no number is 0, and other queries mean nothing, as Watcher has it.
fn thresholds(query: Option<&str>) -> Thresholds {
    let mut thresholds = Thresholds::default();
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        let digits = value.bytes().take_while(u8::is_ascii_digit).count();
        let number = if digits == 0 {
            0
        } else {
            value[..digits].parse().unwrap_or(u64::MAX)
        };
        match name {
            "active_min" => thresholds.active = number,
            "queued_min" => thresholds.queued = number,
            _ => {}
        }
    }
    thresholds
}

fn tail(tail: Tail) -> Response<Made> {
    let mut response = Response::new(Either::Right(lines(tail, Tail::next)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-transform"));
    let epoch = watcher::http_date(SystemTime::UNIX_EPOCH);
    if let Ok(epoch) = HeaderValue::from_str(&epoch) {
        headers.insert(EXPIRES, epoch);
    }
    response
}

fn page(page: Page) -> Answer {
    let Page { headers, body } = page;
    let mut answer = text(StatusCode::OK, body);
    for (name, value) in headers {
        // Names are ours, values digits and dates.
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

fn text(status: StatusCode, body: String) -> Answer {
    answer(status, PLAIN, body.into())
}

fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "Not Found".to_owned())
}

#[cfg(test)]
mod tests;

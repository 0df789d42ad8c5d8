//! From a request to its answer, or to the question that has to be asked first.
//!
//! A plain function of the request's head and the latest view: it does no I/O, never reads a
//! body, and any client may call it with anything.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hyper::{Method, Request, StatusCode, body::Bytes, header::ACCEPT};
use serde::Serialize;

use super::{
    answer::{Answer, JSON, LINES, answer, error, not_allowed, of_age, ok, value},
    compat,
    connections::Asked,
    path::{self, WhichConnections, WhichPast},
    peer::Peer,
    stream,
};
use crate::{
    closest::closest,
    ids::Pid,
    publish::{Audience, Form, Hub, Published, rendered},
    render::{
        json::{self, Buckets},
        openmetrics::Dialect,
    },
    select::{self, SelectError},
    view::{View, Worker, connections::Question, durations::millis},
};

/// All of this for programs, OpenAPI 3.1; kept true by tests.
const DESCRIPTION: &str = include_str!("openapi.json");

/// Paths that exist, for those who ask for others.
pub const ROUTES: [&str; 14] = [
    "/",
    "/v1/view",
    "/v1/listeners",
    "/v1/listeners/ID-or-address",
    "/v1/workers",
    "/v1/workers/PID",
    "/v1/connections",
    "/v1/stream",
    "/v1/history",
    "/v1/reset",
    "/v1/diagnosis",
    "/metrics",
    "/healthz",
    "/openapi.json",
];

/// The query is checked before the view is looked at: a bad one is bad whatever there is.
enum Route<'a> {
    Whole(Form),
    View(Buckets),
    AllWorkers,
    Listeners(&'a str, Buckets),
    Workers(&'a str),
    Connections(WhichConnections),
    Stream(Buckets, Duration),
    History(WhichPast),
    Reset,
    Metrics,
    Health,
    Description,
    Nowhere,
}

/// A query that is not understood.
struct Wrong {
    what: String,
    hint: &'static str,
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self {
            what,
            hint: "the only query is ?buckets=1",
        }
    }
}

/// What a request leads to.
pub enum Reply {
    Answer(Answer),
    Document(Form, Arc<Published>),
    /// Not to be answered from the view alone.
    Ask(Box<Asked>),
    Stream(stream::Wish),
    History(WhichPast, Arc<Published>),
    /// Peaks are to be forgotten.
    Reset,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Whether the answer is made of the latest view.
pub fn reads_view<B>(request: &Request<B>) -> bool {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    let route = route(request.uri().path(), request.uri().query());
    is_read && !matches!(route, Ok(Route::Nowhere) | Err(_))
}

pub fn respond<B>(request: &Request<B>, hub: &Hub, peer: Peer, stale: Duration) -> Reply {
    let route = match route(request.uri().path(), request.uri().query()) {
        Ok(Route::Nowhere) => return nowhere(request.uri().path()).into(),
        Ok(route) => route,
        Err(Wrong { what, hint }) => return error(StatusCode::BAD_REQUEST, &what, hint).into(),
    };
    let method = request.method();
    if matches!(route, Route::Reset) {
        return match method {
            &Method::POST => reset(peer),
            _ => not_allowed(method.as_str(), "POST").into(),
        };
    }
    if method != Method::GET && method != Method::HEAD {
        return not_allowed(method.as_str(), "GET, HEAD").into();
    }
    let Some(published) = hub.latest() else {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no view yet",
            "the daemon is starting: ask again in a second",
        )
        .into();
    };
    let age = published.age();
    let whole = |form| Reply::Document(form, Arc::clone(&published));
    let answer = match route {
        Route::Whole(form) => return whole(form),
        Route::Listeners(which, buckets) => listeners(published.view(), which, buckets),
        Route::AllWorkers => return whole(Form::Workers(peer.audience())),
        Route::Workers(which) => workers(published.view(), which, peer.audience()),
        Route::Connections(which) => return connections(published, which, peer),
        Route::Stream(..) if method == Method::HEAD => ok(LINES, Bytes::new()),
        Route::Stream(buckets, interval) => {
            let form = Form::View(buckets, peer.audience());
            return Reply::Stream(stream::Wish { form, interval });
        }
        Route::History(which) => return Reply::History(which, published),
        Route::View(buckets) => return whole(Form::View(buckets, peer.audience())),
        Route::Metrics => return whole(Form::Metrics(dialect(request))),
        Route::Description => return ok(JSON, Bytes::from_static(DESCRIPTION.as_bytes())).into(),
        Route::Health => health(&published, age, stale),
        Route::Nowhere | Route::Reset => nowhere(request.uri().path()),
    };
    of_age(answer, age).into()
}

/// OpenMetrics, but for those who accept the older format and do not name this one.
fn dialect<B>(request: &Request<B>) -> Dialect {
    let accepted = request.headers().get_all(ACCEPT).iter();
    let accepted: Vec<&str> = accepted.filter_map(|it| it.to_str().ok()).collect();
    let names = |kind: &str| accepted.iter().any(|text| text.contains(kind));
    if names("text/plain") && !names("openmetrics") {
        Dialect::Prometheus
    } else {
        Dialect::OpenMetrics
    }
}

fn route<'a>(path: &'a str, query: Option<&str>) -> Result<Route<'a>, Wrong> {
    let route = match path {
        "/" => Route::Whole(Form::Text),
        "/v1/view" => return Ok(Route::View(path::buckets(query)?)),
        "/v1/listeners" | "/v1/listeners/" => {
            return Ok(Route::Whole(Form::Listeners(path::buckets(query)?)));
        }
        "/v1/workers" | "/v1/workers/" => Route::AllWorkers,
        "/v1/connections" | "/v1/connections/" => {
            let which = path::which_connections(query).map_err(|what| Wrong {
                what,
                hint: "queries are ?listener=LISTENER, which may be repeated, worker=PID and \
                       limit=COUNT; encode & as %26 and % as %25",
            })?;
            return Ok(Route::Connections(which));
        }
        "/v1/stream" => {
            let (buckets, interval) = path::stream(query).map_err(|what| Wrong {
                what,
                hint: "queries are ?interval=1s, from 100ms to 1m, and buckets=1",
            })?;
            return Ok(Route::Stream(buckets, interval));
        }
        "/v1/history" => {
            let which = path::which_past(query).map_err(|what| Wrong {
                what,
                hint: "queries are ?since=10m, step=1s and listener=LISTENER, which may be repeated; \
                       encode & as %26 and % as %25",
            })?;
            return Ok(Route::History(which));
        }
        "/v1/reset" => Route::Reset,
        "/v1/diagnosis" => Route::Whole(Form::Diagnosis),
        "/metrics" => Route::Metrics,
        "/healthz" => Route::Health,
        "/openapi.json" => Route::Description,
        path => {
            if let Some(which) = path.strip_prefix("/v1/listeners/") {
                return Ok(Route::Listeners(which, path::buckets(query)?));
            }
            match path.strip_prefix("/v1/workers/") {
                Some(which) => Route::Workers(which),
                None => return Ok(Route::Nowhere),
            }
        }
    };
    path::no_query(query).map_err(|what| Wrong {
        what,
        hint: "this path takes no query",
    })?;
    Ok(route)
}

fn nowhere(path: &str) -> Answer {
    let all = || ROUTES.into_iter().chain(compat::PATHS);
    let nearest = closest(path, all()).unwrap_or("/");
    let path: String = path.chars().take(128).collect();
    error(
        StatusCode::NOT_FOUND,
        &format!("there is nothing at {path:?}"),
        &format!(
            "the closest is {nearest}; there are {}",
            all().collect::<Vec<_>>().join(", ")
        ),
    )
}

fn listeners(view: &View, which: &str, buckets: Buckets) -> Answer {
    let typed = match path::decoded(which) {
        Ok(typed) => typed,
        Err(what) => return error(StatusCode::BAD_REQUEST, &what, "encode % as %25"),
    };
    match select::listeners(view, &typed) {
        Ok(found) => ok(JSON, rendered(|out| json::listeners(found, buckets, out))),
        Err(error) => no_listener(error),
    }
}

pub fn no_listener(why: SelectError) -> Answer {
    match why {
        SelectError::NoListeners { typed } => error(
            StatusCode::NOT_FOUND,
            &format!("no listener matches {typed:?}"),
            "this host has no listener that can be seen",
        ),
        SelectError::Unknown {
            typed,
            closest,
            existing,
        } => error(
            StatusCode::NOT_FOUND,
            &format!("no listener matches {typed:?}"),
            &format!("the closest is {closest}; listening: {existing}"),
        ),
    }
}

/// Whose connections a user may see who is not trusted: those of his own processes.
fn allowed(view: &View, peer: Peer) -> Option<BTreeSet<Pid>> {
    if peer.is_trusted() {
        return None;
    }
    let uid = peer.uid();
    let own = view
        .workers
        .iter()
        .filter(|it| uid.is_some() && it.uid == uid);
    Some(own.map(|worker| Pid(worker.pid)).collect())
}

fn reset(peer: Peer) -> Reply {
    if peer.is_trusted() {
        return Reply::Reset;
    }
    let who = match peer.uid() {
        Some(uid) => format!("user {uid}"),
        None => "a user whom the kernel does not name".to_owned(),
    };
    error(
        StatusCode::FORBIDDEN,
        &format!("{who} may not have peaks forgotten, which others look at"),
        "ask as root, or as the user who runs the daemon",
    )
    .into()
}

fn connections(published: Arc<Published>, which: WhichConnections, peer: Peer) -> Reply {
    let WhichConnections {
        listeners,
        worker,
        limit,
    } = which;
    match select::places(published.view(), &listeners) {
        Ok(places) => {
            let question = Question {
                places,
                worker,
                allowed: allowed(published.view(), peer),
                limit,
            };
            Reply::Ask(Box::new(Asked {
                question,
                published,
            }))
        }
        Err(error) => no_listener(error).into(),
    }
}

fn workers(view: &View, which: &str, audience: Audience) -> Answer {
    let Ok(pid) = which.parse::<u32>() else {
        let which: String = which.chars().take(128).collect();
        return error(
            StatusCode::BAD_REQUEST,
            &format!("{which:?} is not a process id"),
            "a worker is named by its pid: /v1/workers/1234",
        );
    };
    let found: Vec<&Worker> = view.workers.iter().filter(|it| it.pid == pid).collect();
    if !found.is_empty() {
        return ok(JSON, rendered(|out| json::workers(found, audience, out)));
    }
    no_worker(view, pid)
}

pub fn no_worker(view: &View, pid: u32) -> Answer {
    let pids: Vec<String> = view.workers.iter().map(|it| it.pid.to_string()).collect();
    let names = || pids.iter().map(String::as_str);
    let hint = match closest(&pid.to_string(), names()) {
        Some(closest) => format!(
            "the closest is {closest}; workers: {}",
            select::some_of(names())
        ),
        None => "there is no worker that can be seen".to_owned(),
    };
    let what = format!("process {pid} is not a worker of any listener");
    error(StatusCode::NOT_FOUND, &what, &hint)
}

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    version: &'a str,
    view_age_ms: u64,
    listeners: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

fn health(published: &Published, age: Duration, stale: Duration) -> Answer {
    let mut health = Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
        view_age_ms: millis(age),
        listeners: published.view().listeners.len(),
        error: None,
        hint: None,
    };
    if age <= stale {
        return value(StatusCode::OK, &health);
    }
    health.status = "stale";
    health.error = Some("the sampler has not published for too long");
    health.hint = Some("answers are that old; see the daemon's log, and whether the host thrashes");
    answer(
        StatusCode::SERVICE_UNAVAILABLE,
        JSON,
        rendered(|out| json::write(&health, out)),
    )
}

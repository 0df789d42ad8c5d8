//! Whether what is said of the paths is so.

mod fields;
mod shape;
mod whole;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use self::{
    fields::{May, may, names},
    shape::{COMPONENTS, Shapes, open_objects},
};
use super::{Running, start_with_history, view};
use crate::{
    diagnose::{self, Severity},
    history::{History, Recorder},
    publish::Hub,
    server::{Desk, Limits, route::ROUTES},
    snapshot::connections::Phase,
    view::{self, View, connections, durations::Counts, history, puma, slabs},
};

/// A server that has all there is to tell.
fn server(view: View, limits: Limits) -> Running {
    let history = Arc::new(History::reaching(Duration::from_secs(60)));
    let mut recorder = Recorder::new(Arc::clone(&history));
    recorder.end_step(
        &view,
        |_| Some(1),
        |_| Counts::published(&[(Some(40.0), 1)]),
    );
    drop(recorder);
    let hub = Hub::new();
    hub.publish(view);
    let history = Arc::into_inner(history).unwrap();
    let desk = Desk::open(|_, _| Ok(whole::listing())).unwrap();
    start_with_history(history, desk, hub, limits)
}

#[test]
fn it_describes_the_paths_that_there_are() {
    let described: BTreeSet<String> = Shapes::new().description["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(|path| {
            path.replace("{listener}", "ID-or-address")
                .replace("{pid}", "PID")
        })
        .collect();
    let existing: BTreeSet<String> = ROUTES.map(str::to_owned).into();
    assert_eq!(described, existing);
}

/// A field that is not described makes an answer another shape.
#[test]
fn no_object_is_left_open_but_the_description() {
    let mut open = Vec::new();
    open_objects(&Shapes::new().description, "", &mut open);
    let itself = ".paths./openapi.json.get.responses.200.content.application/json.schema";
    assert_eq!(open, [itself]);
}

/// Answers of each path, held against the description.
async fn answers() -> Shapes {
    let mut shapes = Shapes::new();
    let paths = shapes.description["paths"].clone();
    let error = json!({"$ref": format!("{COMPONENTS}Error")});
    for view in [view(), whole::view()] {
        let server = server(view, Limits::default());
        let mut checked = 0;
        for (template, operations) in paths.as_object().unwrap() {
            let path = template
                .replace("{listener}", ":18080")
                .replace("{pid}", "14390");
            let good = &operations["get"]["responses"]["200"]["content"];
            let Some(good) = good.as_object() else {
                continue;
            };
            // It does not end.
            if template == "/v1/stream" {
                continue;
            }
            let parameters = operations["get"]["parameters"].as_array();
            let has_buckets = parameters.is_some_and(|all| {
                let mut names = all.iter().map(|parameter| &parameter["name"]);
                names.any(|name| name == "buckets")
            });
            for query in ["", "?buckets=1"] {
                if !query.is_empty() && !has_buckets {
                    continue;
                }
                let path = format!("{path}{query}");
                let reply = server.get(&path).await;
                assert_eq!(reply.status, 200, "{path}");
                let kind = reply.header("content-type").unwrap();
                let content = good
                    .get(kind)
                    .unwrap_or_else(|| panic!("{path}: {kind} is not described"));
                if kind == "application/json" {
                    shapes.check(&content["schema"], &reply.json(), &path);
                    checked += 1;
                }
            }
            let wrong = server.get(&format!("{path}?no=such")).await;
            assert_eq!(wrong.status, 400, "{path}");
            shapes.check(&error, &wrong.json(), &path);
        }
        assert_eq!(checked, 13);
        let publish = async {
            loop {
                server.hub.publish(super::view());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reply = tokio::select! {
            reply = server.ask("POST", "/v1/reset") => reply,
            () = publish => unreachable!(),
        };
        assert_eq!(reply.status, 200);
        let schema = json_schema(&paths["/v1/reset"]["post"], "200");
        shapes.check(&schema, &reply.json(), "/v1/reset");
    }
    let stale = Limits {
        stale: Duration::ZERO,
        ..Limits::default()
    };
    let server = server(view(), stale);
    for (path, status) in [("/healthz", 503), ("/v1/diagnosis", 200)] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        let schema = json_schema(&paths[path]["get"], &status.to_string());
        shapes.check(&schema, &reply.json(), path);
    }
    shapes
}

fn json_schema(operation: &Value, status: &str) -> Value {
    operation["responses"][status]["content"]["application/json"]["schema"].clone()
}

#[tokio::test]
async fn answers_have_the_shape_that_it_says_and_all_of_it() {
    let shapes = answers().await;
    let components = shapes.description["components"]["schemas"].as_object();
    let mut untried: Vec<String> = components
        .unwrap()
        .keys()
        .filter(|component| !shapes.met.contains_key(*component))
        .cloned()
        .collect();
    for (component, fields) in shapes.fields() {
        let met = shapes.met.get(&component).map_or(&[][..], Vec::as_slice);
        for field in fields {
            let is_tried = met
                .iter()
                .any(|it| it.get(&field).is_some_and(|it| !it.is_null()));
            if !is_tried {
                untried.push(format!("{component}.{field}"));
            }
        }
    }
    assert_eq!(untried, Vec::<String>::new());
}

/// Fields of a component: their names, which may be absent and which `null`, as its type has them.
fn check_type<T: DeserializeOwned + Serialize>(shapes: &Shapes, component: &str) {
    let schema = &shapes.description["components"]["schemas"][component];
    assert_eq!(shapes.fields()[component], names::<T>(), "{component}");
    for value in &shapes.met[component] {
        for field in value.as_object().unwrap().keys() {
            let property = &schema["properties"][field];
            let lets_null = |kinds: &Value| match kinds {
                Value::Array(kinds) => kinds.contains(&"null".into()),
                kind => kind == "null",
            };
            let choices = property["anyOf"].as_array().into_iter().flatten();
            let described = May {
                be_absent: !schema["required"]
                    .as_array()
                    .is_some_and(|required| required.contains(&field.as_str().into())),
                be_null: choices.chain([property]).any(|it| lets_null(&it["type"])),
            };
            assert_eq!(described, may::<T>(value, field), "{component}.{field}");
        }
    }
}

#[tokio::test]
async fn components_are_the_types_that_are_published() {
    type Check = fn(&Shapes, &str);
    let types: [(&str, Check); 40] = [
        ("Connection", check_type::<connections::Connection>),
        ("Connections", check_type::<view::Connections>),
        ("Diagnosis", check_type::<diagnose::Diagnosis>),
        ("Distribution", check_type::<slabs::Distribution>),
        ("Durations", check_type::<view::Durations>),
        ("Exits", check_type::<view::Exits>),
        ("Field", check_type::<slabs::Field>),
        ("Gap", check_type::<view::Gap>),
        ("Group", check_type::<view::Group>),
        ("History", check_type::<history::History>),
        ("Host", check_type::<view::Host>),
        ("HostSource", check_type::<diagnose::HostSource>),
        ("Listener", check_type::<view::Listener>),
        ("ListenerHistory", check_type::<history::ListenerHistory>),
        ("ListenerName", check_type::<connections::ListenerName>),
        ("Listing", check_type::<connections::Listing>),
        ("Netns", check_type::<view::Netns>),
        ("Note", check_type::<connections::Note>),
        ("Place", check_type::<view::Place>),
        ("Puma", check_type::<puma::Puma>),
        ("PumaWorker", check_type::<puma::PumaWorker>),
        ("Queue", check_type::<view::Queue>),
        ("Recent", check_type::<view::Recent>),
        ("RecentDurations", check_type::<view::RecentDurations>),
        ("Server", check_type::<view::Server>),
        ("Skew", check_type::<view::Skew>),
        ("Slab", check_type::<slabs::Slab>),
        ("Slots", check_type::<slabs::Slots>),
        ("Source", check_type::<view::Source>),
        ("Stalled", check_type::<view::Stalled>),
        ("Subject", check_type::<diagnose::Subject>),
        ("Tcp", check_type::<connections::Tcp>),
        ("Turns", check_type::<view::Turns>),
        ("Verdict", check_type::<diagnose::Verdict>),
        ("View", check_type::<View>),
        ("Worker", check_type::<view::Worker>),
        ("WorkerDurations", check_type::<view::WorkerWait>),
        ("WorkerListener", check_type::<view::WorkerListener>),
        ("WorkerTurns", check_type::<view::WorkerTurns>),
        ("WorkerValues", check_type::<slabs::WorkerValues>),
    ];
    let shapes = answers().await;
    let mut others: BTreeSet<String> = shapes.fields().into_keys().collect();
    for (component, check) in types {
        assert!(others.remove(component), "{component} is not described");
        check(&shapes, component);
    }
    // Of the server itself, which nobody reads as types.
    let own = ["Error", "Forgotten", "Health", "Stale"];
    assert_eq!(others, own.map(str::to_owned).into());
}

#[test]
fn closed_sets_are_those_of_their_types() {
    for (component, field, expected) in [
        ("Source", "state", names::<view::SourceState>()),
        ("HostSource", "state", names::<view::SourceState>()),
        ("Queue", "limit_from", names::<view::LimitFrom>()),
        ("Turns", "write_end", names::<view::WriteEnd>()),
        ("Worker", "class", names::<view::Class>()),
        ("Puma", "source", names::<puma::PumaSource>()),
        ("Connection", "state", names::<connections::State>()),
        ("Connection", "phase", names::<Phase>()),
        ("Verdict", "severity", names::<Severity>()),
    ] {
        assert_eq!(
            closed_set(component, field),
            expected,
            "{component}.{field}"
        );
    }
}

#[test]
fn verdicts_are_those_that_are_documented() {
    let text = include_str!("../../../../docs/diagnosis.md");
    let titles = text.lines().filter_map(|line| line.strip_prefix("## "));
    let codes = titles.filter(|title| title.starts_with(|it: char| it.is_ascii_lowercase()));
    let values = closed_set("Verdict", "verdict");
    assert_eq!(values, codes.map(str::to_owned).collect());
}

fn closed_set(component: &str, field: &str) -> BTreeSet<String> {
    let description = Shapes::new().description;
    let values = &description["components"]["schemas"][component]["properties"][field]["enum"];
    let values = values.as_array().unwrap().iter();
    values.map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_parameter_is_understood() {
    let server = server(view(), Limits::default());
    for (path, query) in [
        ("/v1/view", "buckets=1"),
        ("/v1/listeners", "buckets=0"),
        ("/v1/listeners/:18080", "buckets=1"),
        (
            "/v1/history",
            "since=10m&step=10s&listener=:18080&listener=:80",
        ),
    ] {
        let reply = server.get(&format!("{path}?{query}")).await;
        assert_eq!(reply.status, 200, "{path}?{query}: {reply:?}");
    }
}

//! Whether what is said of the paths is so.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Running, no_desk, start_with_history, view};
use crate::{
    history::{History, Recorder},
    publish::Hub,
    server::{Limits, route::ROUTES},
};

fn description() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

/// A server that has all there is to tell.
fn server() -> Running {
    let history = Arc::new(History::reaching(Duration::from_secs(60)));
    let mut recorder = Recorder::new(Arc::clone(&history));
    recorder.end_step(&view(), |_| Some(1), |_| None);
    drop(recorder);
    let hub = Hub::new();
    hub.publish(view());
    let history = Arc::into_inner(history).unwrap();
    start_with_history(history, no_desk(), hub, Limits::default())
}

#[test]
fn it_describes_the_paths_that_there_are() {
    let described: BTreeSet<String> = description()["paths"]
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

/// Connections are not among them: nothing is read here, and their shape is held against real ones.
#[tokio::test]
async fn answers_have_the_shape_that_it_says() {
    let server = server();
    let description = description();
    let mut checked = 0;
    for (template, operations) in description["paths"].as_object().unwrap() {
        let path = template
            .replace("{listener}", ":18080")
            .replace("{pid}", "14390");
        let good = &operations["get"]["responses"]["200"]["content"];
        let Some(good) = good.as_object() else {
            continue;
        };
        if template == "/v1/stream" || template == "/v1/connections" {
            continue;
        }
        let reply = server.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        let kind = reply.header("content-type").unwrap();
        let content = good
            .get(kind)
            .unwrap_or_else(|| panic!("{path}: {kind} is not described"));
        if kind == "application/json" {
            assert_shape(&description, &content["schema"], &reply.json(), &path);
            checked += 1;
        }
        let wrong = server.get(&format!("{path}?no=such")).await;
        assert_eq!(wrong.status, 400, "{path}");
        let error = json!({"$ref": "#/components/schemas/Error"});
        assert_shape(&description, &error, &wrong.json(), &path);
    }
    assert_eq!(checked, 9);
}

#[tokio::test]
async fn each_parameter_is_understood() {
    let server = server();
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

fn assert_shape(description: &Value, schema: &Value, value: &Value, what: &str) {
    let mut whole = schema.clone();
    whole["components"] = description["components"].clone();
    let validator = jsonschema::validator_for(&whole).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

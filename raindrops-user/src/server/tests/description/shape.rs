//! JSON held against what the description says of it, and what of that was tried.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub const COMPONENTS: &str = "#/components/schemas/";

/// The description, and what answers had of it.
pub struct Shapes {
    pub description: Value,
    /// What was met of each component.
    pub met: BTreeMap<String, Vec<Value>>,
}

impl Shapes {
    pub fn new() -> Self {
        Self {
            description: serde_json::from_str(include_str!("../../openapi.json")).unwrap(),
            met: BTreeMap::new(),
        }
    }

    /// Components that are objects with fields of their own, and these.
    pub fn fields(&self) -> BTreeMap<String, BTreeSet<String>> {
        let components = self.description["components"]["schemas"].as_object();
        let components = components.unwrap().iter();
        let objects = components.filter_map(|(name, schema)| {
            let fields = schema.get("properties")?.as_object()?;
            Some((name.clone(), fields.keys().cloned().collect()))
        });
        objects.collect()
    }

    /// Check that a value has the shape of a schema, and note what it is made of.
    pub fn check(&mut self, schema: &Value, value: &Value, what: &str) {
        let errors = self.errors(schema, value);
        assert!(errors.is_empty(), "{what}: {errors:#?}");
        let mut met = Vec::new();
        self.walk(schema, value, &mut met);
        for (component, value) in met {
            self.met.entry(component).or_default().push(value);
        }
    }

    fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut whole = schema.clone();
        whole["components"] = self.description["components"].clone();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&whole)
            .unwrap();
        validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    fn walk(&self, schema: &Value, value: &Value, met: &mut Vec<(String, Value)>) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix(COMPONENTS).unwrap();
            met.push((name.to_owned(), value.clone()));
            self.walk(&self.description["components"]["schemas"][name], value, met);
        }
        for choice in schema["anyOf"].as_array().into_iter().flatten() {
            if self.errors(choice, value).is_empty() {
                self.walk(choice, value, met);
            }
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            let field = schema["properties"].get(name);
            self.walk(field.unwrap_or(&schema["additionalProperties"]), value, met);
        }
        for value in value.as_array().into_iter().flatten() {
            self.walk(&schema["items"], value, met);
        }
    }
}

/// Paths of the objects that may have any fields.
pub fn open_objects(schema: &Value, path: &str, found: &mut Vec<String>) {
    if schema["type"] == "object" && schema.get("additionalProperties").is_none() {
        found.push(path.to_owned());
    }
    match schema {
        Value::Object(parts) => {
            for (name, part) in parts {
                open_objects(part, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(parts) => {
            for part in parts {
                open_objects(part, path, found);
            }
        }
        _ => {}
    }
}

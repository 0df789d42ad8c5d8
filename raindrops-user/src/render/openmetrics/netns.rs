//! The label of a network namespace: its name, and nothing for the daemon's own.
//!
//! No two namespaces of a view have the same label, because their listeners would then seem to be
//! one. A namespace without a name is called by its inode, as `lsns` and `/proc/PID/ns` show it.

use std::collections::BTreeMap;

use crate::view::View;

/// Labels by inode.
pub(super) fn labels(view: &View) -> BTreeMap<u32, String> {
    let own = view.own_netns();
    let mut labels: BTreeMap<u32, String> = BTreeMap::new();
    for listener in &view.listeners {
        let inode = listener.netns.inode;
        let label = || match listener.netns.name.value() {
            _ if own == Some(inode) => String::new(),
            Some(name) => name.clone(),
            None => by_inode(inode),
        };
        labels.entry(inode).or_insert_with(label);
    }
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for label in labels.values() {
        *times.entry(label.clone()).or_default() += 1;
    }
    for (inode, label) in &mut labels {
        if times[label] > 1 {
            *label = format!("{label} {}", by_inode(*inode));
        }
    }
    labels
}

fn by_inode(inode: u32) -> String {
    format!("net:[{inode}]")
}

#[cfg(test)]
mod tests {
    use super::labels;
    use crate::{
        fact::Fact,
        view::{Source, SourceState, View},
    };

    #[test]
    fn each_namespace_has_a_label_of_its_own() {
        let mut view: View =
            serde_json::from_str(include_str!("../../../tests/data/view.json")).unwrap();
        let name = |name: &str| Fact::Is(name.to_owned());
        let namespaces = [
            (1, Fact::Nothing),
            (2, Fact::Nothing),
            (3, Fact::Unknown),
            (4, name("web")),
            (5, name("twice")),
            (6, name("twice")),
        ];
        for (listener, (inode, name)) in view.listeners.iter_mut().zip(namespaces) {
            listener.netns.inode = inode;
            listener.netns.name = name;
        }
        view.listeners.truncate(6);
        let own = [("own".to_owned(), "1".to_owned())];
        view.sources.retain(|source| source.name != "netns");
        view.sources.push(Source {
            name: "netns".to_owned(),
            state: SourceState::On,
            detail: own.into(),
            reason: None,
            grant: None,
            age_ms: None,
        });
        let found: Vec<String> = labels(&view).into_values().collect();
        assert_eq!(
            found,
            [
                "",
                "net:[2]",
                "net:[3]",
                "web",
                "twice net:[5]",
                "twice net:[6]",
            ]
        );
    }
}

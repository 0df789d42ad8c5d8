//! Names of servers for people.

use super::{View, Worker};

impl View {
    /// A server for a person: `other:24494` would say less than `python3:24494`.
    #[must_use]
    pub fn server_label(&self, id: &str) -> String {
        let Some(pid) = id.strip_prefix("other:") else {
            return id.to_owned();
        };
        let is_it = |worker: &&Worker| worker.pid.to_string() == pid;
        let first = self.workers.iter().find(is_it);
        let of_it = || {
            let mut workers = self.workers.iter();
            workers.find(|worker| worker.server.value().is_some_and(|it| it == id))
        };
        match first.or_else(of_it) {
            Some(worker) => format!("{}:{pid}", worker.comm),
            None => id.to_owned(),
        }
    }
}

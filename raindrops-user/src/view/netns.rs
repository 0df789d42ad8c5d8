//! Which of the view's listeners are of another network namespace than the daemon's.

use super::{Listener, Netns, View};

impl View {
    /// Inode of the daemon's own network namespace, where the view tells.
    #[must_use]
    pub fn own_netns(&self) -> Option<u32> {
        let source = self.sources.iter().find(|source| source.name == "netns")?;
        source.detail.get("own")?.parse().ok()
    }

    /// The namespace of a listener, if that is not the daemon's own.
    #[must_use]
    pub fn other_netns<'v>(&self, listener: &'v Listener) -> Option<&'v Netns> {
        let own = self.own_netns()?;
        (listener.netns.inode != own).then_some(&listener.netns)
    }
}

impl Netns {
    /// Its name, or its inode where it has none or none is known.
    #[must_use]
    pub fn label(&self) -> String {
        match self.name.value() {
            Some(name) => name.clone(),
            None => self.inode.to_string(),
        }
    }
}

//! What a HUP changes while the daemon runs, and what it says needs a restart.

use std::path::{Path, PathBuf};

use super::Running;
use crate::{
    compat::tokens::{Tokens, TokensError},
    config::{self, Settings},
    logging,
    render::openmetrics::Bounds,
};

impl Running<'_> {
    /// Takes over what can change while it runs. Counts stay; a file that is wrong changes nothing.
    pub(super) fn reload(&mut self) {
        let Some(config) = &self.line.config else {
            if self.settings.puma_token_file.is_some() {
                let file = self.settings.puma_token_file.clone();
                self.take_tokens(file);
            } else {
                log::info!("HUP: there is no --config FILE to read again");
            }
            return;
        };
        let new = match self.line.settings() {
            Ok(new) => new,
            Err(error) => {
                log::error!("HUP: {error}; the old configuration stays");
                return;
            }
        };
        self.line.warn_of_open_secrets(&new);
        self.take_tokens(new.puma_token_file.clone());
        let changes = self.apply(new);
        if changes.is_empty() {
            log::info!("HUP: {}: nothing changed", config.display());
        } else {
            log::info!("HUP: {}: {}", config.display(), changes.join(", "));
        }
    }

    /// Reads the file of tokens again. One that is wrong changes nothing.
    fn take_tokens(&mut self, file: Option<PathBuf>) {
        let is_new = file != self.settings.puma_token_file;
        match tokens(file.as_deref()) {
            Ok(tokens) => {
                if let (Some(tokens), Some(file)) = (&tokens, &file) {
                    log::info!("HUP: {}: {} tokens", file.display(), tokens.len());
                } else if is_new {
                    log::info!("HUP: there is no file of tokens any more");
                }
                self.compat.set_tokens(tokens);
                self.settings.puma_token_file = file;
            }
            Err(error) => log::error!("HUP: {error}; the old tokens stay"),
        }
    }

    fn apply(&mut self, new: Settings) -> Vec<String> {
        let mut changes = Vec::new();
        let old = &mut self.settings;
        if new.sample_hz != old.sample_hz {
            changes.push(format!("sample_hz {} -> {}", old.sample_hz, new.sample_hz));
            self.sampler.reconfigure(new.sample_hz);
            old.sample_hz = new.sample_hz;
        }
        let (most, new_most) = (&mut old.metrics.listeners, new.metrics.listeners);
        if new_most != *most {
            changes.push(format!("metrics_listeners {most} -> {new_most}"));
            self.hub.bound_series(Bounds::of(new_most));
            *most = new_most;
        }
        if new.puma != old.puma {
            // Tokens are in it: what has changed is not told.
            changes.push("puma changed".to_owned());
            self.sampler.ask_puma(new.puma.clone());
            old.puma = new.puma;
        }
        if new.verbose != old.verbose {
            changes.push(format!("verbose {} -> {}", old.verbose, new.verbose));
            logging::set_verbose(new.verbose);
            old.verbose = new.verbose;
        }
        if new.log != old.log {
            let name = |log: &Option<PathBuf>| match log {
                Some(path) => path.display().to_string(),
                None => "standard error".to_owned(),
            };
            match logging::redirect(new.log.as_deref()) {
                Ok(()) => {
                    changes.push(format!("log {} -> {}", name(&old.log), name(&new.log)));
                    old.log = new.log;
                }
                Err(error) => log::error!("HUP: {error}; the old log stays"),
            }
        }
        for (name, differs) in [
            ("socket", new.socket != old.socket),
            ("no_bpf", new.bpf != old.bpf),
            ("accept_hook", new.accept_hook != old.accept_hook),
            (
                "max_connections",
                new.max_connections != old.max_connections,
            ),
            ("netns", new.netns != old.netns),
            ("turns", new.turns != old.turns),
            ("listener", new.without_turns != old.without_turns),
            ("slab", new.slabs.files != old.slabs.files),
            ("slab_directory", new.slabs.directory != old.slabs.directory),
            ("inferred_slabs", new.slabs.inferred != old.slabs.inferred),
            ("history", new.history != old.history),
            ("listen_tcp", new.metrics.tcp != old.metrics.tcp),
            (
                "allow_remote",
                new.metrics.allow_remote != old.metrics.allow_remote,
            ),
            ("textfile", new.metrics.textfile != old.metrics.textfile),
        ] {
            if differs {
                changes.push(format!("{name} needs a restart to change"));
            }
        }
        changes
    }
}

/// Those for pumactl; `None` where no file is configured. Warns where any user may read it.
pub(super) fn tokens(file: Option<&Path>) -> Result<Option<Tokens>, TokensError> {
    let Some(file) = file else { return Ok(None) };
    let tokens = Tokens::read(file)?;
    if config::is_readable_by_all(file) {
        let file = file.display();
        log::warn!("{file}: holds tokens and any user may read it; run chmod o-r {file}");
    }
    Ok(Some(tokens))
}

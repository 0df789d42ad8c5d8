//! The port of `--listen-tcp`, where there is one.

use std::{future::Future, io, sync::Arc};

use super::DaemonError;
use crate::{
    config::MetricsPlaces,
    publish::Hub,
    server::{Limits, tcp::Port},
};

/// The port that is asked for. What it means is said where others may reach it.
pub(super) fn open(metrics: &MetricsPlaces) -> Result<Option<Port>, DaemonError> {
    let Some(address) = metrics.tcp else {
        return Ok(None);
    };
    let port = Port::open(address, metrics.allow_remote)
        .map_err(|source| DaemonError::Port { address, source })?;
    if metrics.allow_remote {
        log::warn!(
            "allow_remote: whoever reaches {} reads all figures, and which servers run here",
            port.address()
        );
    }
    Ok(Some(port))
}

/// Nothing to do where there is none.
pub(super) async fn serve(
    port: Option<Port>,
    hub: Arc<Hub>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    match port {
        Some(port) => port.serve(hub, Limits::default(), stop).await,
        None => Ok(()),
    }
}

//! Everybody who is told how far it is: the terminal, the service manager, a file of metrics.

use core::time::Duration;
use std::time::Instant;

use super::args::DaemonArgs;
use super::metrics::MetricsFile;
use super::progress::{self, Progress};
use super::registry::Registry;
use super::report::Reporter;
use super::systemd::ServiceManager;

/// Those that are wanted.
pub(super) struct Observers {
    progress: Option<Progress>,
    service_manager: Option<ServiceManager>,
    metrics: Option<MetricsFile>,
    report: Reporter,
}

impl Observers {
    pub(super) fn new(args: &DaemonArgs, report: &Reporter) -> Self {
        let service_manager = ServiceManager::from_environment().unwrap_or_else(|error| {
            report.warning(&format!("could not use NOTIFY_SOCKET: {error}"));
            None
        });
        let interval = Duration::from_secs(args.metrics_interval);
        Self {
            progress: Progress::new(args.progress, args.log_format, report.quiet, report.json),
            service_manager,
            metrics: args.metrics_file.clone().map(|file| MetricsFile::new(file, interval)),
            report: report.clone(),
        }
    }

    /// How long a stream may be silent before its server is to be asked for a sign of life.
    pub(super) fn ask_after(&self) -> Option<Duration> {
        self.service_manager.as_ref()?.ask_after()
    }

    /// Waits until somebody has to be told something, and tells it.
    ///
    /// Cancel-safe: what was not told is due the next time.
    pub(super) async fn look(&mut self, registry: &Registry) {
        let due = [
            self.progress.as_ref().map(Progress::due),
            self.service_manager.as_ref().map(ServiceManager::due),
            self.metrics.as_ref().map(MetricsFile::due),
        ];
        let due = due.into_iter().flatten().min();
        let changed = tokio::select! {
            () = registry.changed() => true,
            () = sleep_until(due) => false,
        };
        let servers = registry.show();
        if let Some(progress) = &mut self.progress {
            progress.look(&servers, &self.report);
        }
        if let Some(service_manager) = &mut self.service_manager {
            service_manager.look(&servers);
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.look(&servers, changed, &self.report);
        }
    }

    /// Tells about each server now.
    pub(super) fn tell(&self, registry: &Registry) {
        progress::tell(&registry.show(), &self.report);
    }

    pub(super) fn reloading(&self) {
        if let Some(service_manager) = &self.service_manager {
            service_manager.reloading();
        }
    }

    pub(super) fn reloaded(&self) {
        if let Some(service_manager) = &self.service_manager {
            service_manager.reloaded();
        }
    }

    pub(super) fn stopping(&mut self) {
        if let Some(service_manager) = &mut self.service_manager {
            service_manager.stopping();
        }
    }

    /// The end: the line is cleared, and the file has the last figures.
    pub(super) async fn finish(&mut self, registry: &Registry) {
        if let Some(progress) = &self.progress {
            progress.finish();
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.finish(&registry.show(), &self.report).await;
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => core::future::pending().await,
    }
}

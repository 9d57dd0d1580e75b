//! The observers of the receivers' progress: the terminal, the service manager, the metrics file.

use core::time::Duration;
use std::time::Instant;

use super::args::DaemonArgs;
use super::metrics::MetricsFile;
use super::progress::{self, Progress};
use super::registry::Registry;
use super::report::Reporter;
use super::systemd::ServiceManager;

/// The observers that the options and the environment ask for.
pub(super) struct Observers {
    progress: Option<Progress>,
    service_manager: Option<ServiceManager>,
    metrics: Option<MetricsFile>,
    report: Reporter,
}

impl Observers {
    pub(super) fn new(args: &DaemonArgs, report: &Reporter) -> Self {
        let service_manager = ServiceManager::from_environment().unwrap_or_else(|error| {
            report.warning("service_manager", &format!("could not use NOTIFY_SOCKET: {error}"));
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

    /// How long a stream may be silent before the receiver asks its server for a sign of life.
    pub(super) fn ask_after(&self) -> Option<Duration> {
        self.service_manager.as_ref()?.ask_after()
    }

    /// Waits until an observer is due, or a server's state has changed; then updates the observers.
    ///
    /// Cancel-safe: an update that was not made is still due at the next call.
    pub(super) async fn poll(&mut self, registry: &Registry) {
        let due = [
            self.progress.as_ref().map(Progress::due),
            self.service_manager.as_ref().map(ServiceManager::due),
            self.metrics.as_ref().map(MetricsFile::due),
        ];
        let due = due.into_iter().flatten().min();
        let changed = tokio::select! {
            () = registry.changed() => true,
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => false,
        };
        let servers = registry.show();
        if let Some(progress) = &mut self.progress {
            progress.poll(&servers, &self.report);
        }
        if let Some(service_manager) = &mut self.service_manager {
            service_manager.poll(&servers);
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.poll(&servers, changed, &self.report);
        }
    }

    /// Prints the progress of each server now.
    pub(super) fn report_all(&self, registry: &Registry) {
        progress::report_all(&registry.show(), &self.report);
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

    /// Clears the status line, and writes the last figures to the metrics file.
    pub(super) async fn finish(&mut self, registry: &Registry) {
        if let Some(progress) = &self.progress {
            progress.finish();
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.finish(&registry.show(), &self.report).await;
        }
    }
}

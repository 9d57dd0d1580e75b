//! Receives from one server.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::watch;

use super::super::OnEvent;
use super::super::connection::Target;
use super::super::failure::Failure;
use super::super::input;
use super::super::slot::create_physical_slot;
use super::args::ServerArgs;
use super::registry::{Entry, Registry};
use super::report::Reporter;
use tapster::conninfo::Config;
use tapster::receiver::{Receiver, ReceiverEvent, ReceiverOptions};
use tapster::replication::{PhysicalSlot, max_wal_senders};
use tapster::types::{Advice, SqlState};

/// How long to wait before the first connection is tried again.
const FIRST_CONNECTION_RETRY: Duration = Duration::from_secs(15);
/// The same for a server that answers but takes no sessions at the moment. Doubled each time, up to the other.
const TAKEN_SOON: Duration = Duration::from_millis(500);

/// One server that is received from.
pub(super) struct Server {
    pub(super) args: ServerArgs,
    pub(super) target: Target,
    pub(super) options: ReceiverOptions,
    pub(super) report: Reporter,
    pub(super) registry: Arc<Registry>,
    pub(super) entry: Arc<Entry>,
    /// Whether to wait for a server whose first connection fails. With several servers the process goes on, so that no
    /// service manager would start this one again.
    pub(super) persistent: bool,
}

impl Server {
    /// Receives until `stop` becomes true, or nothing more can be done. With each change of `reload` passwords
    /// and service files are read again, for the next connection.
    pub(super) async fn run(
        mut self,
        mut stop: watch::Receiver<bool>,
        mut reload: watch::Receiver<u64>,
    ) -> Result<(), Failure> {
        input::check_directory(&self.options.directory)?;
        if self.args.slot.is_none() {
            let text = "no replication slot: the server may remove WAL before it is received (see -S)";
            self.report.warning("no_slot", text);
        }
        let mut is_slot_there = !self.args.create_slot;
        let mut soon = TAKEN_SOON;
        loop {
            match self.attempt(&mut is_slot_there, &stop, &mut reload).await {
                Err(failure) if failure.is_too_many_connections() && self.admits_none().await => {
                    return Err(failure.with_advice(Advice::AllowWalSenders).given(&self.target.given()));
                }
                Err(failure) if self.waits_after(&failure) => {
                    self.registry.unreachable(&self.entry);
                    let retry_in = if failure.is_transient() { soon } else { FIRST_CONNECTION_RETRY };
                    soon = (soon * 2).min(FIRST_CONNECTION_RETRY);
                    let failure = failure.given(&self.target.given());
                    self.report.disconnected(&failure, retry_in);
                    tokio::select! {
                        () = tokio::time::sleep(retry_in) => {}
                        _ = reload.changed() => {}
                        _ = stop.wait_for(|stop| *stop) => return Ok(()),
                    }
                }
                result => return result.map_err(|failure| failure.given(&self.target.given())),
            }
        }
    }

    /// Whether the first connection is tried again after this failure.
    fn waits_after(&self, failure: &Failure) -> bool {
        !self.args.no_loop && (failure.is_transient() || self.persistent && failure.is_connection())
    }

    /// Whether the server admits no replication connection at all, as far as it tells.
    async fn admits_none(&self) -> bool {
        match self.target.replication_config() {
            Ok(config) => max_wal_senders(&config).await.is_ok_and(|admitted| admitted == 0),
            Err(_) => false,
        }
    }

    async fn attempt(
        &mut self,
        is_slot_there: &mut bool,
        stop: &watch::Receiver<bool>,
        reload: &mut watch::Receiver<u64>,
    ) -> Result<(), Failure> {
        if let (false, Some(slot)) = (*is_slot_there, &self.args.slot) {
            create_slot(&mut self.target, slot, self.args.if_not_exists, &self.report).await?;
            *is_slot_there = true;
        }
        let stopped = self.target.with_password(async |target| {
            let config = target.replication_config()?;
            let (configs, newest) = watch::channel(config.clone());
            let report = self.report.clone();
            let given = target.given();
            let on_event: OnEvent<'_> = Box::new(move |event| match event {
                ReceiverEvent::Disconnected { error, retry_in } => {
                    report.disconnected(&Failure::from(error).given(&given), retry_in);
                }
                event => report.event(&event),
            });
            let receiver = Receiver::new(config, self.options.clone(), on_event)
                .with_progress(Arc::clone(&self.entry.progress))
                .reconfigured_by(newest);
            tokio::select! {
                result = receiver.run(stop.clone()) => Ok(result?),
                never = follow(target, reload, configs, &self.report) => match never {},
                never = self.registry.watch(&self.entry) => match never {},
            }
        });
        self.report.stopped(&stopped.await?);
        Ok(())
    }
}

/// At each reload, reads the password and service files again and sends the new configuration to the receiver.
async fn follow(
    target: &Target,
    reload: &mut watch::Receiver<u64>,
    configs: watch::Sender<Config>,
    report: &Reporter,
) -> Infallible {
    while reload.changed().await.is_ok() {
        match target.replication_config() {
            Ok(config) => drop(configs.send(config)),
            Err(failure) => {
                report.warning("not_reloaded", &format!("going on as before: {}", failure.text()))
            }
        }
    }
    core::future::pending().await
}

async fn create_slot(
    target: &mut Target,
    slot: &str,
    if_not_exists: bool,
    report: &Reporter,
) -> Result<(), Failure> {
    let mut connection = target.connect_replication().await?;
    let options = PhysicalSlot { temporary: false, reserve_wal: true };
    let created =
        create_physical_slot(&mut connection, slot, options, if_not_exists).await.map_err(|error| {
            let exists = "--if-not-exists uses one that exists already";
            Failure::from(error).hint_if(SqlState::DUPLICATE_OBJECT, exists)
        })?;
    if created {
        report.line(&format!("slot {slot} created"), &json!({ "event": "slot_created", "slot_name": slot }));
    }
    Ok(connection.close().await?)
}

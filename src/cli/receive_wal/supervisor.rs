//! Starts and stops the receivers of this process, and reads the configuration file again.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::super::about::About;
use super::super::connection::Target;
use super::super::failure::Failure;
use super::super::stderr;
use super::args::ServerArgs;
use super::config::{self, Definition};
use super::registry::{Entry, Registry};
use super::report::Reporter;
use super::server::Server;
use tapster::conninfo::{Config, HostConfig};

/// The size of a receiver's buffer with `--config`, in bytes: many servers with less than 1 MiB of memory each.
const BUFFER_OF_MANY: usize = 256 << 10;

/// The servers of this process, running or ended.
pub(super) struct Supervisor {
    /// None for the one server of the command line.
    file: Option<PathBuf>,
    servers: BTreeMap<String, Supervised>,
    tasks: JoinSet<Result<(), Failure>>,
    registry: Arc<Registry>,
    report: Reporter,
    ask_after: Option<Duration>,
    /// A change makes every receiver read passwords and service files again.
    reload: watch::Sender<u64>,
    is_stopping: bool,
}

/// One server: what it is to do, its task, and what follows the task's end.
struct Supervised {
    definition: Definition,
    entry: Arc<Entry>,
    report: Reporter,
    stop: watch::Sender<bool>,
    /// The task, while it runs.
    task: Option<Id>,
    /// Why the task ended, if it failed.
    failure: Option<Failure>,
    then: Then,
}

/// What to do when a server's task ends.
enum Then {
    Nothing,
    /// The file no longer has this server.
    Remove,
    /// The file has a new definition of this server.
    Start(Box<Definition>),
}

impl Supervisor {
    /// Without servers yet; they come from `file`, if there is one.
    pub(super) fn new(
        file: Option<PathBuf>,
        registry: Arc<Registry>,
        report: Reporter,
        ask_after: Option<Duration>,
    ) -> Self {
        Self {
            file,
            servers: BTreeMap::new(),
            tasks: JoinSet::new(),
            registry,
            report,
            ask_after,
            reload: watch::Sender::new(0),
            is_stopping: false,
        }
    }

    /// Starts the servers of the file, or the one of the command line.
    pub(super) fn start(&mut self, args: ServerArgs) -> Result<(), Failure> {
        match &self.file {
            Some(file) => {
                for definition in config::read(file)? {
                    self.start_or_fail(definition);
                }
                Ok(())
            }
            None => self.start_one(Definition::of_command_line(args)),
        }
    }

    /// Waits until a server's task ends; `None` once all have ended.
    ///
    /// Cancel-safe.
    pub(super) async fn next_end(&mut self) -> Option<()> {
        let ended = self.tasks.join_next_with_id().await?;
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(panicked(&error))),
        };
        let name =
            self.servers.iter().find(|(_, server)| server.task == Some(id)).map(|(name, _)| name.clone());
        if let Some(name) = name {
            self.on_end(&name, result);
        }
        Some(())
    }

    /// Tells every server to stop in good order.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        for server in self.servers.values() {
            let _ = server.stop.send(true);
        }
    }

    /// Reads the file again: starts servers that are new or have failed, stops those that are gone, restarts those that
    /// have changed. Every receiver reads passwords and service files again for its next connection.
    pub(super) fn reload(&mut self) {
        if self.is_stopping {
            return;
        }
        if let Some(file) = &self.file {
            match config::read(file) {
                Ok(definitions) => self.apply(definitions),
                Err(failure) => {
                    let text = format!("going on as before: {}", failure.text());
                    self.report.warning("not_reloaded", &text);
                    return;
                }
            }
        }
        self.reload.send_modify(|times| *times += 1);
    }

    /// The result of the command: of several failures, the one with the highest exit code.
    pub(super) fn result(self) -> Result<(), Failure> {
        let failures = self.servers.into_values().filter_map(|server| {
            let about = server.report.about();
            server.failure.map(|failure| failure.surely_about(about))
        });
        match failures.max_by_key(Failure::code) {
            // Each failure was reported when it happened.
            Some(failure) if self.file.is_some() => Err(failure.already_reported()),
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn apply(&mut self, definitions: Vec<Definition>) {
        for (name, server) in &mut self.servers {
            if !definitions.iter().any(|definition| definition.name == *name) {
                server.then = Then::Remove;
                let _ = server.stop.send(true);
            }
        }
        for definition in definitions {
            match self.servers.get_mut(&definition.name) {
                Some(server) if server.task.is_some() => {
                    let is_same = server.definition.is_same_as(&definition) && !*server.stop.borrow();
                    server.then = if is_same { Then::Nothing } else { Then::Start(Box::new(definition)) };
                    server.stop.send_replace(!is_same);
                }
                _ => self.start_or_fail(definition),
            }
        }
        let gone: Vec<String> = self
            .servers
            .iter()
            .filter(|(_, server)| server.is_gone())
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.remove(&name);
        }
    }

    fn on_end(&mut self, name: &str, result: Result<(), Failure>) {
        let Some(server) = self.servers.get_mut(name) else { return };
        server.task = None;
        if let Err(failure) = &result
            && self.file.is_some()
        {
            server.report.failed(failure);
        }
        self.registry.ended(&server.entry, result.as_ref().err().map_or(0, Failure::code));
        server.failure = result.err();
        match core::mem::replace(&mut server.then, Then::Nothing) {
            Then::Nothing => {}
            Then::Remove => self.remove(name),
            Then::Start(_) if self.is_stopping => {}
            Then::Start(definition) => self.start_or_fail(*definition),
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(server) = self.servers.remove(name) {
            self.registry.remove(&server.entry);
        }
    }

    /// As [`start_one`](Self::start_one), but an error makes only this server fail and not the others.
    fn start_or_fail(&mut self, definition: Definition) {
        let name = definition.name.clone();
        if let Err(failure) = self.start_one(definition.clone()) {
            let about = About { label: Some(name.clone()), ..About::default() };
            let report = self.report.of_server(Some(name.as_str().into()), about);
            report.failed(&failure);
            let entry = self.registry.add(name.clone(), report.shared_about());
            self.registry.ended(&entry, failure.code());
            let server = Supervised { failure: Some(failure), ..Supervised::new(definition, entry, report) };
            self.servers.insert(name, server);
        }
    }

    fn start_one(&mut self, definition: Definition) -> Result<(), Failure> {
        self.remove(&definition.name);
        let args = definition.args.clone();
        let target = args.target()?;
        let mut options = args.options(self.ask_after)?;
        if self.file.is_some() {
            options.buffer = BUFFER_OF_MANY;
        }
        let name = self.file.is_some().then(|| Arc::<str>::from(definition.name.as_str()));
        let label = match &name {
            Some(name) => name.to_string(),
            None => address(&target)?,
        };
        let about = About { label: Some(label.clone()), ..target.about() };
        if name.is_none() {
            stderr::set_server(&about);
        }
        let report = self.report.of_server(name, about);
        let entry = self.registry.add(label, report.shared_about());
        let mut supervised = Supervised::new(definition, Arc::clone(&entry), report.clone());
        let server = Server {
            args,
            target,
            options,
            report,
            registry: Arc::clone(&self.registry),
            entry,
            persistent: self.file.is_some(),
        };
        let run = server.run(supervised.stop.subscribe(), self.reload.subscribe());
        supervised.task = Some(self.tasks.spawn_local(run).id());
        self.servers.insert(supervised.definition.name.clone(), supervised);
        Ok(())
    }
}

impl Supervised {
    fn new(definition: Definition, entry: Arc<Entry>, report: Reporter) -> Self {
        let stop = watch::Sender::new(false);
        Self { definition, entry, report, stop, task: None, failure: None, then: Then::Nothing }
    }

    /// Whether the server is no longer in the file, and its task has ended.
    fn is_gone(&self) -> bool {
        self.task.is_none() && matches!(self.then, Then::Remove)
    }
}

/// The label of a server without a name: its addresses.
pub(super) fn address(target: &Target) -> Result<String, Failure> {
    let Config { hosts, .. } = target.replication_config()?;
    let host = |host: &HostConfig| {
        let name = host.name.as_ref().or(host.address.as_ref()).map_or("", String::as_str);
        match &host.endpoint {
            Ok(endpoint) => format!("{name}:{}", endpoint.port),
            Err(_) => name.to_string(),
        }
    };
    Ok(hosts.iter().map(host).collect::<Vec<_>>().join(","))
}

fn panicked(error: &JoinError) -> Failure {
    Failure::other(format!("internal error, please report it: {error}"))
}

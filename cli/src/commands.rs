//! One file a noun. Each command gives the exit code of the program.

mod attach;
mod audit;
mod checkpoint;
mod commit;
mod containers;
mod content;
mod content_transfer;
mod cp;
mod daemon;
mod doctor;
mod events;
mod exec;
mod facts;
mod foreground;
mod gc;
mod groups;
mod health;
mod images;
mod leases;
mod lifecycle;
mod live;
mod logs;
mod namespaces;
mod prune;
mod pull;
mod push;
mod run;
mod save;
mod scrub;
mod snapshots;
mod sockets;
mod stress;
mod transfers;
mod why;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::arguments::{Arguments, Command, DaemonCommand, Deferred, TOPICS};
use crate::context::Context;
use crate::output;

/// Does what the words say.
pub async fn dispatch(arguments: Arguments) -> anyhow::Result<u8> {
    match &arguments.command {
        Command::Completions { shell } => {
            let shells = clap_complete::env::Shells::builtins();
            let shell = shells.completer(&shell.to_string()).context("no script for that shell")?;
            shell.write_registration("COMPLETE", "bosun", "bosun", "bosun", &mut std::io::stdout())?;
            return Ok(0);
        }
        Command::ExitCodes => {
            output::line(TOPICS);
            return Ok(0);
        }
        Command::Man { directory } => {
            clap_mangen::generate_to(Arguments::command(), directory)?;
            return Ok(0);
        }
        Command::Doctor(Deferred(options)) => {
            return doctor::doctor(arguments.address.clone(), arguments.json, options).await;
        }
        Command::Health(Deferred(options)) => return health::health(&arguments, options).await,
        _ => {}
    }
    let context = Context::connect(&arguments).await?;
    match arguments.command {
        Command::Run(Deferred(options)) => return run::run(&context, *options).await,
        Command::Restore(Deferred(options)) => return run::run(&context, options.into()).await,
        Command::Attach(Deferred(options)) => return attach::attach(&context, &options).await,
        Command::Exec(Deferred(options)) => return exec::exec(&context, options).await,
        Command::Cp(Deferred(options)) => cp::cp(&context, &options).await,
        Command::Commit(Deferred(options)) => commit::commit(&context, &options).await,
        Command::Prune(Deferred(options)) => prune::prune(&context, &options).await,
        Command::Checkpoint(Deferred(options)) => checkpoint::checkpoint(&context, options).await,
        Command::Pull(Deferred(options)) => pull::pull(&context, &options).await,
        Command::Push(Deferred(options)) => push::push(&context, &options).await,
        Command::Transfers(Deferred(command)) => transfers::transfers(&context, command).await,
        Command::Parts(Deferred(options)) => facts::parts(&context, options).await,
        Command::Images(Deferred(options)) => images::images(&context, options).await,
        Command::Load(Deferred(options)) => images::load(&context, &options).await,
        Command::Save(Deferred(options)) => save::save(&context, &options).await,
        Command::Ps(Deferred(options)) => containers::ps(&context, &options).await,
        Command::Kill(Deferred(options)) => containers::kill(&context, &options).await,
        Command::Group(Deferred(options)) => groups::groups(&context, options).await,
        Command::Start(Deferred(options)) => lifecycle::start(&context, &options).await,
        Command::Stop(Deferred(options)) => lifecycle::stop(&context, &options).await,
        Command::Restart(Deferred(options)) => lifecycle::restart(&context, &options).await,
        Command::Pause(Deferred(options)) => live::pause(&context, &options).await,
        Command::Resume(Deferred(options)) => live::resume(&context, &options).await,
        Command::Update(Deferred(options)) => live::update(&context, &options).await,
        Command::Top(Deferred(options)) => live::top(&context, &options).await,
        Command::Stats(Deferred(options)) => live::stats(&context, &options).await,
        Command::Wait(Deferred(options)) => containers::wait(&context, &options).await,
        Command::Rm(Deferred(options)) => containers::rm(&context, &options).await,
        Command::Inspect(Deferred(options)) => containers::inspect(&context, &options).await,
        Command::Logs(Deferred(options)) => logs::logs(&context, &options).await,
        Command::Events(Deferred(options)) => events::events(&context, &options).await,
        Command::Content(Deferred(options)) => content::content(&context, options).await,
        Command::Tree => daemon::tree(&context).await,
        Command::Snapshots(Deferred(options)) => snapshots::snapshots(&context, options).await,
        Command::Namespaces(Deferred(options)) => namespaces::namespaces(&context, options).await,
        Command::Leases(Deferred(options)) => leases::leases(&context, options).await,
        Command::Gc(Deferred(options)) => gc::gc(&context, &options).await,
        Command::Why(Deferred(options)) => why::why(&context, &options).await,
        Command::Operations(Deferred(options)) => daemon::operations(&context, options).await,
        Command::Audit(Deferred(options)) => audit::audit(&context, &options).await,
        Command::Daemon(Deferred(DaemonCommand::Status)) => daemon::status(&context).await,
        Command::Stress(Deferred(options)) => stress::stress(&context, &options).await,
        Command::Version => daemon::version(&context).await,
        Command::Completions { .. }
        | Command::ExitCodes
        | Command::Man { .. }
        | Command::Doctor(_)
        | Command::Health(_) => Ok(()),
    }
    .map(|()| 0)
}

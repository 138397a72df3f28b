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

use crate::arguments::{Arguments, Command, DaemonCommand, TOPICS};
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
        Command::Doctor(options) => {
            return doctor::doctor(arguments.address.clone(), arguments.json, options).await;
        }
        Command::Health(options) => return health::health(&arguments, options).await,
        _ => {}
    }
    let context = Context::connect(&arguments).await?;
    match arguments.command {
        Command::Run(options) => return run::run(&context, *options).await,
        Command::Restore(options) => return run::run(&context, options.into()).await,
        Command::Attach(options) => return attach::attach(&context, &options).await,
        Command::Exec(options) => return exec::exec(&context, options).await,
        Command::Cp(options) => cp::cp(&context, &options).await,
        Command::Commit(options) => commit::commit(&context, &options).await,
        Command::Prune(options) => prune::prune(&context, &options).await,
        Command::Checkpoint(options) => checkpoint::checkpoint(&context, options).await,
        Command::Pull(options) => pull::pull(&context, &options).await,
        Command::Push(options) => push::push(&context, &options).await,
        Command::Transfers(command) => transfers::transfers(&context, command).await,
        Command::Parts(options) => facts::parts(&context, options).await,
        Command::Images(options) => images::images(&context, options).await,
        Command::Load(options) => images::load(&context, &options).await,
        Command::Save(options) => save::save(&context, &options).await,
        Command::Ps(options) => containers::ps(&context, &options).await,
        Command::Kill(options) => containers::kill(&context, &options).await,
        Command::Group(options) => groups::groups(&context, options).await,
        Command::Start(options) => lifecycle::start(&context, &options).await,
        Command::Stop(options) => lifecycle::stop(&context, &options).await,
        Command::Restart(options) => lifecycle::restart(&context, &options).await,
        Command::Pause(options) => live::pause(&context, &options).await,
        Command::Resume(options) => live::resume(&context, &options).await,
        Command::Update(options) => live::update(&context, &options).await,
        Command::Top(options) => live::top(&context, &options).await,
        Command::Stats(options) => live::stats(&context, &options).await,
        Command::Wait(options) => containers::wait(&context, &options).await,
        Command::Rm(options) => containers::rm(&context, &options).await,
        Command::Inspect(options) => containers::inspect(&context, &options).await,
        Command::Logs(options) => logs::logs(&context, &options).await,
        Command::Events(options) => events::events(&context, &options).await,
        Command::Content(options) => content::content(&context, options).await,
        Command::Tree => daemon::tree(&context).await,
        Command::Snapshots(options) => snapshots::snapshots(&context, options).await,
        Command::Namespaces(options) => namespaces::namespaces(&context, options).await,
        Command::Leases(options) => leases::leases(&context, options).await,
        Command::Gc(options) => gc::gc(&context, &options).await,
        Command::Why(options) => why::why(&context, &options).await,
        Command::Operations(options) => daemon::operations(&context, options).await,
        Command::Audit(options) => audit::audit(&context, &options).await,
        Command::Daemon(DaemonCommand::Status) => daemon::status(&context).await,
        Command::Stress(options) => stress::stress(&context, &options).await,
        Command::Version => daemon::version(&context).await,
        Command::Completions { .. }
        | Command::ExitCodes
        | Command::Man { .. }
        | Command::Doctor(_)
        | Command::Health(_) => Ok(()),
    }
    .map(|()| 0)
}

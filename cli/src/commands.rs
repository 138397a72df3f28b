//! One file a noun. Each command gives the exit code of the program.

mod attach;
mod audit;
mod checkpoint;
mod commit;
mod containers;
mod content;
mod content_prune;
mod content_transfer;
mod cp;
mod create;
mod daemon;
mod doctor;
mod events;
mod exec;
mod facts;
mod foreground;
mod gc;
mod groups;
mod health;
mod image_mounts;
mod images;
mod leases;
mod lifecycle;
mod live;
mod logs;
mod namespaces;
mod oci;
mod prune;
mod pull;
mod push;
mod run;
mod save;
mod scrub;
mod snapshots;
mod sockets;
mod stress;
mod tasks;
mod transfers;
mod why;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::arguments::{
    Arguments, Command, ContainersCommand, DaemonCommand, Deferred, TOPICS, TasksCommand,
};
use crate::context::Context;
use crate::format::Printing;
use crate::{output, trace};

/// As clap has it.
const WRONG_USAGE: u8 = 2;
/// What bosun itself ends with where the container's own code would be its: 1 could be that.
const FAILED_BESIDE_A_CONTAINER: u8 = 125;

/// Does what the words say.
pub async fn dispatch(arguments: Arguments) -> anyhow::Result<u8> {
    trace::start();
    let printing = match Printing::of(&arguments) {
        Ok(printing) => printing,
        Err(wrong) => {
            wrong.print()?;
            return Ok(WRONG_USAGE);
        }
    };
    let gives_containers_code = gives_containers_code(&arguments.command);
    let limit = arguments.timeout;
    let work = act(arguments, printing);
    let done = match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(anyhow::anyhow!(
                "not done within {limit:?}: what the daemon was asked for may still go on"
            )),
        },
    };
    match done {
        Err(error) if gives_containers_code => {
            output::report(&error);
            Ok(FAILED_BESIDE_A_CONTAINER)
        }
        done => done,
    }
}

fn gives_containers_code(command: &Command) -> bool {
    match command {
        Command::Run(_) | Command::Restore(_) | Command::Exec(_) | Command::Attach(_) => true,
        Command::Start(Deferred(start)) => start.attach,
        Command::Containers(Deferred(words)) => {
            matches!(words.command, Some(ContainersCommand::Restore(_)))
        }
        Command::Tasks(Deferred(words)) => matches!(
            words.command,
            Some(
                TasksCommand::Start(_)
                    | TasksCommand::Exec(_)
                    | TasksCommand::Attach(_)
                    | TasksCommand::Rm { .. }
            )
        ),
        _ => false,
    }
}

async fn act(arguments: Arguments, printing: Printing) -> anyhow::Result<u8> {
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
            return doctor::doctor(arguments.address.clone(), printing.json, options).await;
        }
        Command::Health(Deferred(options)) => {
            return health::health(&arguments, printing.json, options).await;
        }
        _ => {}
    }
    let context = Context::connect(&arguments, printing).await?;
    match arguments.command {
        Command::Run(Deferred(options)) => return run::run(&context, *options).await,
        Command::Restore(Deferred(options)) => return run::run(&context, options.into()).await,
        Command::Attach(Deferred(options)) => return attach::attach(&context, &options).await,
        Command::Exec(Deferred(options)) => return exec::exec(&context, options).await,
        Command::Containers(Deferred(options)) => return containers::containers(&context, options).await,
        Command::Tasks(Deferred(options)) => return tasks::tasks(&context, options).await,
        Command::Start(Deferred(options)) => return lifecycle::start(&context, &options).await,
        Command::Create(Deferred(options)) => create::create(&context, &options).await,
        Command::Oci(Deferred(options)) => oci::oci(&context, options).await,
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
        Command::Stop(Deferred(options)) => lifecycle::stop(&context, &options).await,
        Command::Restart(Deferred(options)) => lifecycle::restart(&context, &options).await,
        Command::Pause(Deferred(options)) => live::pause(&context, &options).await,
        Command::Resume(Deferred(options)) => live::resume(&context, &options).await,
        Command::Update(Deferred(options)) => live::update(&context, &options).await,
        Command::Top(Deferred(options)) => live::top(&context, &options).await,
        Command::Stats(Deferred(options)) => live::stats(&context, &options).await,
        Command::Wait(Deferred(options)) => containers::wait(&context, &options).await,
        Command::Rm(Deferred(options)) => containers::rm(&context, &options).await,
        Command::Inspect(Deferred(options)) => containers::inspect(&context, &options.containers).await,
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

//! `imctl`: the operator's command line.

mod arguments;
mod config_check;
mod context;
mod conversation;
mod dead_letters;
mod feed;
mod files;
mod generated;
mod migrate;
mod named;
mod output;
mod prompt;
mod push;
mod shards;
mod status;
mod text;
mod trace;
mod user;
mod warnings;
mod webhook;
mod webhook_arguments;

use std::process::ExitCode;

use arguments::{
    Arguments, Command, ConfigCommand, ConversationCommand, FilesCommand, PushCommand, ShardsCommand,
    UserCommand,
};
use clap::Parser as _;
use context::Context;
use output::{Ending, Output, UNANSWERED};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match Box::pin(run(arguments)).await {
        Ok(ending) => ending.into(),
        Err(error) if is_closed_pipe(&error) => Ending::Good.into(),
        Err(error) => {
            eprintln!("imctl: {}", text::printable(&format!("{error:#}")));
            ExitCode::from(UNANSWERED)
        }
    }
}

/// The reader of standard output, such as `head`, has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn run(arguments: Arguments) -> anyhow::Result<Ending> {
    let Arguments { config, json, command } = arguments;
    let output = Output::new(json);
    let config = config.as_deref();
    let context = || Context::load(config);
    match command {
        Command::Config(ConfigCommand::Check { gateway, worker, offline }) => {
            let worker = worker.as_deref().or(config);
            config_check::run(gateway.as_deref(), worker, offline, output).await
        }
        Command::Migrate { dry_run } => migrate::run(&context()?, dry_run, output).await,
        Command::Status => status::run(&context()?, output).await,
        Command::DeadLetters(command) => dead_letters::run(&context()?, command, output).await,
        Command::User(UserCommand::Show { id }) => user::show::run(&context()?, &id, output).await,
        Command::User(UserCommand::Disconnect { id, yes }) => {
            user::disconnect::run(&context()?, &id, yes, output).await
        }
        Command::User(UserCommand::Token { id, ttl_s, gateway }) => {
            user::token::run(gateway.as_deref(), &id, ttl_s, output)
        }
        Command::Conversation(ConversationCommand::Show { id, messages }) => {
            conversation::show::run(&context()?, &id, messages, output).await
        }
        Command::Conversation(ConversationCommand::Verify { id, .. }) => {
            conversation::verify::run(&context()?, id.as_deref(), output).await
        }
        Command::Trace { msg_id, conversation, sender } => {
            let wanted = trace::Wanted { msg_id, conversation, sender };
            trace::run(&context()?, wanted, output).await
        }
        Command::Feed => feed::run(&context()?, output).await,
        Command::Push(PushCommand::VapidKey) => push::vapid_key(output),
        Command::Webhook(command) => webhook::run(&context()?, command, output).await,
        Command::Files(FilesCommand::Verify) => files::verify(&context()?, output).await,
        Command::Shards(ShardsCommand::Plan { workers, shards }) => {
            shards::plan::run(context, workers, shards, output).await
        }
        Command::Shards(ShardsCommand::Set { count, apply }) => {
            shards::set::run(&context()?, count, apply, output).await
        }
        Command::Completions { shell } => generated::completions(shell),
        Command::Man { folder } => generated::man_pages(&folder),
    }
}

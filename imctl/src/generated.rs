//! Completions for shells, and man pages, generated from the command line.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::{Shell as Generator, generate};

use crate::arguments::{Arguments, Shell};
use crate::output::Ending;

/// Prints the completions for `shell`.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<Ending> {
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut text = Vec::new();
    generate(generator, &mut Arguments::command(), "imctl", &mut text);
    std::io::Write::write_all(&mut std::io::stdout(), &text)?;
    Ok(Ending::Good)
}

/// Writes a page for each command into `folder`.
pub(crate) fn man_pages(folder: &Path) -> anyhow::Result<Ending> {
    clap_mangen::generate_to(Arguments::command(), folder)
        .with_context(|| format!("writing man pages into {} (the folder must exist)", folder.display()))?;
    Ok(Ending::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_that_does_something_has_examples() {
        let mut commands: Vec<clap::Command> = Arguments::command().get_subcommands().cloned().collect();
        while let Some(command) = commands.pop() {
            let children: Vec<clap::Command> = command.get_subcommands().cloned().collect();
            if children.is_empty() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("imctl "), "{} has no example", command.get_name());
            }
            commands.extend(children);
        }
    }
}

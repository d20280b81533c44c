//! Runs the command.

use super::{look, rules, view};
use crate::context::Context;
use crate::output::{Ending, Output};

/// Looks at everything once, and prints it.
pub(crate) async fn run(context: &Context, output: Output) -> anyhow::Result<Ending> {
    let mut status = look::look(context).await;
    status.findings = rules::findings(&status);
    output.show(&status, view::text)?;
    Ok(match (&status.findings[..], &status.unknown[..]) {
        ([], []) => Ending::Good,
        ([], _) => Ending::Unknown,
        _ => Ending::Finding,
    })
}

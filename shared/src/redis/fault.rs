//! Which answers of Redis say that the connection leads to the wrong server. Pure.
//!
//! After a failover the old master still answers on all old connections: it is a replica now, loads its data, or has lost its
//! master. A new connection to the same address may lead to the new master.

/// The first words of such answers.
const WRONG_SERVER: [&str; 8] = [
    // A replica.
    "READONLY",
    // It has just started.
    "LOADING",
    // A replica without its master.
    "MASTERDOWN",
    // It cannot write its snapshot, and takes no writes.
    "MISCONF",
    // It lost its replicas: probably a former master.
    "NOREPLICAS",
    // It was replaced, or its password was changed: connections log in again.
    "NOAUTH",
    "WRONGPASS",
    // Slots are not served.
    "CLUSTERDOWN",
];

/// Whether an error with this text came from a server that must not be used any more.
pub(super) fn is_wrong_server(error: &str) -> bool {
    let begins = |text: &str| {
        WRONG_SERVER.iter().any(|word| {
            text.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ':']))
        })
    };
    // Before version 7, the answer to a command of a script is inside that of the script.
    begins(error)
        || (error.starts_with("ERR Error running script")
            && error.match_indices(" -").any(|(at, dash)| begins(&error[at + dash.len()..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_from_the_right_or_the_wrong_server() {
        for (wrong, error) in [
            (true, "READONLY You can't write against a read only replica."),
            (true, "READONLY You can't write against a read only replica. script: 1a2b, on @user_script:15."),
            (
                true,
                "ERR Error running script (call to f_1a2b): @user_script:15: -READONLY You can't write against a read only replica.",
            ),
            (true, "LOADING Redis is loading the dataset in memory"),
            (true, "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
            (
                true,
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            ),
            (true, "NOREPLICAS Not enough good replicas to write."),
            (true, "NOAUTH Authentication required."),
            (true, "WRONGPASS invalid username-password pair or user is disabled."),
            (true, "CLUSTERDOWN The cluster is down"),
            (false, "OOM command not allowed when used memory > 'maxmemory'."),
            (false, "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
            (false, "NOSCRIPT No matching script. Please use EVAL."),
            (false, "WRONGTYPE Operation against a key holding the wrong kind of value"),
            (false, "NOPERM this user has no permissions to run the 'eval' command"),
            (false, "MOVED 3999 127.0.0.1:6381"),
            (false, "ERR Error running script (call to f_1a2b): @user_script:15: -WRONGTYPE Operation"),
            (false, "READONLYISH is no answer of Redis"),
            (false, ""),
        ] {
            assert_eq!(is_wrong_server(error), wrong, "{error}");
        }
    }
}

//! The printed measurements and bounds.

use std::fmt;

use super::{Limits, Part};

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        writeln!(
            f,
            "{} s each; {} messages of {} bytes a batch; {} sockets; {} messages a push; {} cores",
            settings.seconds,
            settings.batch,
            settings.size,
            settings.sockets,
            settings.messages_per_push,
            self.cores
        )?;
        writeln!(f, "each part alone; microseconds of processor time for one, by process\n")?;
        writeln!(f, "{:<19} {:>11} {:>9}  by process", "", "/s", "us each")?;
        self.parts.iter().try_for_each(|part| writeln!(f, "{part}"))?;
        writeln!(f, "\nbounds, if all cores do nothing else:")?;
        for bound in &self.bounds {
            writeln!(f, "{:<38} {:>11.0} /s  ({:.2} us each)", bound.name, bound.per_second, bound.cpu_us)?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<_> = self.cpu_us.iter().map(|(process, us)| format!("{process} {us:.2}")).collect();
        write!(
            f,
            "{:<19} {:>11.0} {:>9.2}  {}",
            self.name,
            self.per_second,
            self.cpu_us_all(),
            each.join(", ")
        )
    }
}

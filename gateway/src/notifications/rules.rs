//! What becomes of the notification of a user and a conversation. Pure.

use std::time::Duration;

use shared::ids::Seq;
use shared::mysql::notifications::{DueRow, Found};

/// A push service keeps a notification for this long, and it is withdrawn for this long.
pub(super) const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// A message that is older is not notified of; a device that could not be reached for this long does not get it.
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_secs(86_400);
/// A notification that is shown is looked at again after this time, and then at growing intervals: a gateway may be killed
/// after it has stored a read position, and before it has told it.
const FIRST_LOOK: Duration = Duration::from_secs(600);
const LAST_LOOK: Duration = Duration::from_secs(6 * 3_600);
/// Attempts to withdraw.
const WITHDRAWALS_MAX: u8 = 5;

/// `duration` in milliseconds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Which unread messages decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// None: nothing of it is unread for the user, or the user is not in the conversation.
    Over,
    /// Messages that are unread: all, or those that mention the user.
    Unread { mentions_only: bool },
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The row is removed: no device shows anything, or it does not matter any more.
    Drop,
    /// Devices are told to remove it.
    Withdraw,
    /// The row is looked at later.
    LookAgain { at: i64, looks: u8 },
    /// Devices are told `seq`.
    Show {
        seq: Seq,
        /// It replaces a notification with an earlier message, since the later one was recalled.
        is_quiet: bool,
        /// Only to devices that have not got it.
        pending_only: bool,
    },
}

/// Whether a mute until `muted_until` holds at `now`.
pub(super) fn is_muted(muted_until: i64, now: i64) -> bool {
    muted_until == -1 || muted_until > now
}

/// Which messages to look at.
pub(super) fn look(row: &DueRow, found: &Found, now: i64) -> Look {
    let mentions_only = is_muted(found.muted_until, now);
    let is_over =
        !found.is_inside || found.read >= row.last_seq || (mentions_only && row.mention_seq <= found.read);
    if is_over { Look::Over } else { Look::Unread { mentions_only } }
}

/// What becomes of `row`. `newest`: the newest of the messages that decide; `None` if there is none.
pub(super) fn decide(row: &DueRow, newest: Option<Seq>, now: i64, interval: Duration) -> Step {
    let maybe_shown = row.shown_seq.max(row.sending_seq);
    let is_old = row.shown_at > 0 && now - row.shown_at > millis(KEPT);
    let Some(newest) = newest else {
        let is_in_vain = row.is_withdrawn && row.looks >= WITHDRAWALS_MAX;
        return if maybe_shown == Seq::ZERO || is_old || is_in_vain { Step::Drop } else { Step::Withdraw };
    };
    if row.last_seq > row.shown_seq {
        if row.sending_seq > Seq::ZERO && now - row.since_ms > millis(GIVEN_UP_AFTER) && row.shown_at == 0 {
            return Step::Drop;
        }
        let is_quiet = newest <= row.shown_seq;
        let earliest = row.shown_at + millis(interval);
        if !is_quiet && row.shown_at > 0 && now < earliest {
            return Step::LookAgain { at: earliest, looks: 0 };
        }
        return Step::Show { seq: row.last_seq, is_quiet, pending_only: false };
    }
    if is_old {
        return Step::Drop;
    }
    if !row.pending.is_empty() && now - row.shown_at <= millis(GIVEN_UP_AFTER) {
        return Step::Show { seq: row.shown_seq, is_quiet: false, pending_only: true };
    }
    Step::LookAgain { at: now + next_look(row.looks), looks: row.looks.saturating_add(1) }
}

/// How long until a notification that is shown is looked at again, in milliseconds.
pub(super) fn next_look(looks: u8) -> i64 {
    millis(FIRST_LOOK).saturating_mul(1 << looks.min(6)).min(millis(LAST_LOOK))
}

/// How long nothing is sent to a device, in milliseconds: as its push service says, or longer with each failure.
pub(super) fn rest(after: Option<Duration>, failures: u32) -> i64 {
    const FIRST: Duration = Duration::from_secs(10);
    const LAST: Duration = Duration::from_secs(3_600);
    const LONGEST: Duration = Duration::from_secs(86_400);
    match after {
        Some(after) => millis(after.min(LONGEST)),
        None => millis(FIRST).saturating_mul(1 << failures.min(10)).min(millis(LAST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const INTERVAL: Duration = Duration::from_secs(10);

    fn row(last_seq: u64) -> DueRow {
        DueRow {
            last_seq: Seq(last_seq),
            mention_seq: Seq::ZERO,
            since_ms: NOW - 100,
            shown_seq: Seq::ZERO,
            sending_seq: Seq::ZERO,
            shown_at: 0,
            looks: 0,
            is_withdrawn: false,
            pending: Vec::new(),
            version: 1,
        }
    }

    fn shown(seq: u64, ago: Duration) -> DueRow {
        let (seq, shown_at) = (Seq(seq), NOW - millis(ago));
        DueRow { shown_seq: seq, sending_seq: seq, shown_at, ..row(seq.0) }
    }

    fn found(read: u64) -> Found {
        Found { read: Seq(read), is_inside: true, muted_until: 0, group_name: String::new() }
    }

    #[test]
    fn a_muted_conversation_is_notified_of_only_by_an_unread_mention() {
        let mentioned = DueRow { mention_seq: Seq(5), ..row(7) };
        for muted_until in [-1, NOW + 1] {
            let muted = |read| Found { muted_until, ..found(read) };
            assert_eq!(look(&row(7), &muted(0), NOW), Look::Over);
            assert_eq!(look(&mentioned, &muted(4), NOW), Look::Unread { mentions_only: true });
            assert_eq!(look(&mentioned, &muted(5), NOW), Look::Over);
        }
        let ended = Found { muted_until: NOW, ..found(0) };
        assert_eq!(look(&row(7), &ended, NOW), Look::Unread { mentions_only: false });
    }

    #[test]
    fn it_is_over_for_users_who_have_read_or_left() {
        assert_eq!(look(&row(7), &found(7), NOW), Look::Over);
        assert_eq!(look(&row(7), &found(6), NOW), Look::Unread { mentions_only: false });
        assert_eq!(look(&row(7), &Found { is_inside: false, ..found(0) }, NOW), Look::Over);
    }

    #[test]
    fn what_was_never_sent_is_dropped_and_what_may_be_shown_is_withdrawn() {
        assert_eq!(decide(&row(7), None, NOW, INTERVAL), Step::Drop);
        let killed = DueRow { sending_seq: Seq(7), ..row(7) };
        assert_eq!(decide(&killed, None, NOW, INTERVAL), Step::Withdraw, "the gateway may have sent it");
        assert_eq!(decide(&shown(7, INTERVAL), None, NOW, INTERVAL), Step::Withdraw);
        assert_eq!(decide(&shown(7, KEPT * 2), None, NOW, INTERVAL), Step::Drop);
        let in_vain = DueRow { is_withdrawn: true, looks: WITHDRAWALS_MAX, ..shown(7, INTERVAL) };
        assert_eq!(decide(&in_vain, None, NOW, INTERVAL), Step::Drop);
    }

    #[test]
    fn a_burst_is_one_notification_per_interval() {
        let show = |seq, is_quiet| Step::Show { seq: Seq(seq), is_quiet, pending_only: false };
        assert_eq!(decide(&row(7), Some(Seq(7)), NOW, INTERVAL), show(7, false));
        let more = |ago| DueRow { last_seq: Seq(9), ..shown(7, ago) };
        let at = NOW - 3_000 + millis(INTERVAL);
        let early = decide(&more(Duration::from_secs(3)), Some(Seq(9)), NOW, INTERVAL);
        assert_eq!(early, Step::LookAgain { at, looks: 0 });
        assert_eq!(decide(&more(INTERVAL), Some(Seq(9)), NOW, INTERVAL), show(9, false));
    }

    #[test]
    fn a_recalled_message_is_replaced_at_once_and_quietly() {
        let recalled = DueRow { last_seq: Seq(8), ..shown(7, Duration::from_secs(1)) };
        let step = decide(&recalled, Some(Seq(6)), NOW, INTERVAL);
        assert_eq!(step, Step::Show { seq: Seq(8), is_quiet: true, pending_only: false });
        assert_eq!(decide(&recalled, None, NOW, INTERVAL), Step::Withdraw);
    }

    #[test]
    fn a_device_that_has_not_got_it_gets_it_for_a_day() {
        let pending = |ago| DueRow { pending: vec!["a".to_owned()], ..shown(7, ago) };
        let again = Step::Show { seq: Seq(7), is_quiet: false, pending_only: true };
        assert_eq!(decide(&pending(INTERVAL), Some(Seq(7)), NOW, INTERVAL), again);
        let given_up = decide(&pending(GIVEN_UP_AFTER * 2), Some(Seq(7)), NOW, INTERVAL);
        assert!(matches!(given_up, Step::LookAgain { .. }), "{given_up:?}");
        let old = NOW - millis(GIVEN_UP_AFTER) - 1;
        let in_vain = DueRow { since_ms: old, sending_seq: Seq(7), ..row(7) };
        assert_eq!(decide(&in_vain, Some(Seq(7)), NOW, INTERVAL), Step::Drop);
    }

    #[test]
    fn what_is_shown_is_looked_at_again_at_growing_intervals() {
        let looks = |looks| DueRow { looks, ..shown(7, INTERVAL) };
        let minutes = |number: u8| match decide(&looks(number), Some(Seq(7)), NOW, INTERVAL) {
            Step::LookAgain { at, looks } if looks == number.saturating_add(1) => (at - NOW) / 60_000,
            other => panic!("{other:?}"),
        };
        assert_eq!([0, 1, 2, 5, 6, 255].map(minutes), [10, 20, 40, 320, 360, 360]);
    }

    #[test]
    fn a_device_rests_as_long_as_its_push_service_says() {
        assert_eq!(rest(Some(Duration::from_secs(7)), 9), 7_000);
        assert_eq!([0, 1, 3, 30].map(|failures| rest(None, failures)), [10_000, 20_000, 80_000, 3_600_000]);
        assert_eq!(rest(Some(Duration::MAX), 0), 86_400_000);
    }
}

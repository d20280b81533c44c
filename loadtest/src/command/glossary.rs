//! The words of the load commands, for `--help`.

/// Explains the words that options and results use.
pub(super) const GLOSSARY: &str = "\
Words:
  window       Messages that a sender may have unanswered. It sends the next one when a reply comes: a full window
               measures throughput, and its latency contains the waiting. Window 1 measures the latency alone.
  open loop    Messages are sent at fixed times, whether earlier ones were answered or not. Latency counts from those
               times, so a system that falls behind cannot hide it.
  accepted     The reply (ack) comes when RabbitMQ has confirmed the message. It will be stored exactly once.
  stored       The reply comes when MySQL has committed the message (--stored).
  persisted    From the first message until the last one can be pulled.
  listener     A connected member that only receives pushes. Due: one push for each message and each listener of its
               group. A push is a hint that saves a pull: a gateway drops pushes for clients that read too slowly, and
               tells them to pull. Missing pushes are counted; they do not break a promise.
  refused      A reply with 429 (rate limit), 500 or 503 (overload, or a server is unavailable). The sender obeys
               retry_after_ms and sends the message again with the same msg_id. The result names the setting of the
               gateway that most likely caused each kind of refusal.
  judge        After the load, every conversation is pulled through every gateway and compared with what the senders
               were told.

Promises that the judge checks; each number counts violations and must be 0:
  lost         Acknowledged with code 0, and not in the conversation.
  doubled      In the conversation more than once.
  misnumbered  Stored under another seq than a retry with the same msg_id is told.
  altered      Stored with another content.
  foreign      In the conversation, and sent by nobody.
  unordered    The seqs of a list do not rise strictly.
  reordered    Messages of one sender are stored in another order than they were sent in (without refusals).
  different    Two gateways show different lists of the same conversation.
  undercut     A message appeared at or below a cursor that a client had been given.
  unnotified   A device of a user without a connection does not show the last message, or one that was read (chaos only).
  (renumbered counts messages whose seq changed in a repair, and whose sender was told: this is allowed.)

Exit codes:
  0  complete: no promise was broken, nothing was refused, no push is missing
  1  a promise was broken
  2  wrong usage: nothing was run
  3  incomplete: no promise was broken, but messages were refused first or pushes are missing; the figures describe
     what the limits allow
  4  the run failed: no gateway or server, a refused token, a refusal that a retry does not change
docs/load-testing.md explains the report line by line.";

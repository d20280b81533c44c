//! The spans of sampled messages in the worker: queue, commit, announcement.
//!
//! One transaction commits many messages, and each trace is of one message: so each sampled message has a span of its own,
//! with the facts of the transaction as attributes.

use std::time::Instant;

use shared::message::Numbered;
use shared::traces::{Span, SpanKind};

use super::batch::Batch;
use super::facts::Facts;
use super::pending::Pending;
use super::verdict::Verdict;

/// A message was delivered: its time in the queue has ended.
pub(crate) fn delivered(message: &mut Numbered, redelivered: bool) {
    let Some(trace) = message.trace.as_mut() else { return };
    let published = trace.since();
    if let Some(span) = trace.enter("queue", SpanKind::Consumer) {
        span.began(published)
            .remote()
            .with("messaging.system", "rabbitmq")
            .with("messaging.operation.type", "receive")
            .with("messaging.operation.name", "deliver")
            .with("im.redelivered", redelivered)
            .record();
    }
}

/// What the spans of one transaction have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitFacts {
    began: Instant,
    messages: usize,
    conversations: usize,
}

impl CommitFacts {
    /// Of the transaction of `batch`, which began then.
    pub(crate) fn of(batch: &Batch, began: Instant) -> Self {
        Self { began, messages: batch.messages().len(), conversations: batch.groups().len() }
    }

    fn describe(&self, span: Span) -> Span {
        span.lasted(self.began.elapsed())
            .with("db.system.name", "mysql")
            .count("db.operation.batch.size", self.messages)
            .count("im.commit.conversations", self.conversations)
    }

    /// The transaction has decided about a message.
    pub(crate) fn judged(&self, pending: &mut Pending, verdict: &Verdict) {
        let Some(trace) = pending.message.trace.as_mut() else { return };
        let Some(span) = trace.enter("commit", SpanKind::Client) else { return };
        let span = self.describe(span).with("im.commit.verdict", verdict_name(verdict));
        match verdict {
            Verdict::Refuse(denied) => span.failed(format!("refused with {}", denied.code())),
            _ => span.count("im.message.seq", usize::try_from(pending.seq.0).unwrap_or(usize::MAX)),
        }
        .record();
    }

    /// The transaction failed.
    pub(crate) fn failed(&self, batch: &Batch) {
        if !shared::traces::is_exporting() {
            return;
        }
        for trace in batch.messages().iter().filter_map(|pending| pending.message.trace.as_ref()) {
            self.describe(trace.child("commit", SpanKind::Client)).failed("the transaction failed").record();
        }
    }
}

fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Take | Verdict::Jump { .. } => "stored",
        Verdict::Hold => "held",
        Verdict::Renumber => "renumbered",
        Verdict::Known { .. } => "duplicate",
        Verdict::Unchanged => "unchanged",
        Verdict::Refuse(_) => "refused",
    }
}

/// Begins the spans of the announcement, which the events name. Almost always none, without an allocation.
pub(crate) fn announced(facts: &mut Facts) -> Vec<Span> {
    let traces = facts.stored.iter_mut().filter_map(|stored| stored.message.trace.as_mut());
    let spans = traces.filter_map(|trace| trace.enter("announce", SpanKind::Producer));
    spans
        .map(|span| span.with("messaging.system", "rabbitmq").with("messaging.operation.type", "send"))
        .collect()
}

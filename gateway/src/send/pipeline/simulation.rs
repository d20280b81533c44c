//! Simulation of a pipeline with a fake broker and worker: paused time, random faults.
//!
//! Every message gets exactly one reply, in time, and a second answer only where the protocol allows one: after a new
//! number or a refusal by the worker. Not simulated: several shards, and the admission.

use std::collections::HashSet;
use std::future::poll_fn;
use std::task::Poll;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, MsgId, Seq};
use shared::message::fixture::{numbered, text, with_kind};
use shared::message::{Message, MessageId};
use shared::shutdown::Shutdown;
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::*;
use crate::config::Limits;
use crate::outbox::Outbox;
use crate::send::in_flight::{EXPIRE_INTERVAL, InFlight, PendingReply};
use crate::send::numbering::NumberError;
use crate::wire::api_error::ApiError;
use crate::wire::name::ConversationName;
use crate::wire::reply;
use crate::wire::request::Cmd;

const DEADLINE: Duration = Duration::from_secs(5);
/// A timer of tokio is late by up to a millisecond.
const TIMER: Duration = Duration::from_millis(2);
const MESSAGES: usize = 60;

/// One request, and the frames that its connection received.
struct Request {
    id: String,
    stored: bool,
    sent_at: Instant,
    outbox: Arc<Outbox>,
    frames: Vec<(Instant, String)>,
    /// Second answers that were sent to its outbox.
    second_answers: Vec<String>,
    connection_ended: bool,
}

/// What the fakes share.
struct World {
    random: StdRng,
    requests: Vec<Request>,
    seqs: Vec<(String, Seq)>,
    last_seq: u64,
    up_at: Instant,
    /// Ids whose batches were confirmed.
    confirmed: HashSet<String>,
    /// Ids that a worker has decided about.
    decided: HashSet<String>,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn up_to_ms(&mut self, ms: u64) -> Duration {
        Duration::from_millis(self.random.random_range(0..=ms))
    }
}

struct FakeNumbering(Shared);

impl AssignSeqs for FakeNumbering {
    async fn assign(&self, batch: &[Admitted]) -> Vec<Result<AssignedSeq, NumberError>> {
        let (delay, hangs, fails) = {
            let mut world = self.0.lock();
            (world.up_to_ms(300), world.chance(3), world.chance(5))
        };
        tokio::time::sleep(delay).await;
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut world = self.0.lock();
        let assign = |message: &Admitted| {
            if fails {
                return Err(NumberError::Vanished);
            }
            let id = message.message.msg_id.as_str();
            if let Some((_, seq)) = world.seqs.iter().find(|(known, _)| known == id) {
                return Ok(AssignedSeq { seq: *seq, jump: false, retry: true, other_content: false });
            }
            world.last_seq += 1;
            let seq = Seq(world.last_seq);
            world.seqs.push((id.to_owned(), seq));
            Ok(AssignedSeq { seq, jump: false, retry: false, other_content: false })
        };
        batch.iter().map(assign).collect()
    }
}

struct FakeBroker {
    world: Shared,
    in_flight: Arc<InFlight>,
    tasks: Shutdown,
}

impl PublishBatch for FakeBroker {
    fn is_ready(&self) -> bool {
        self.world.lock().up_at <= Instant::now()
    }

    async fn until_ready(&mut self) {
        let up_at = self.world.lock().up_at;
        tokio::time::sleep_until(up_at).await;
    }

    async fn publish(&mut self, body: &[u8], limit: Duration) -> Result<(), PublishError> {
        let messages = envelope::decode_batch(body).unwrap().messages;
        let (fate, delay, arrives_all_the_same) = {
            let mut world = self.world.lock();
            (world.random.random_range(0..100), world.up_to_ms(400), world.chance(50))
        };
        let (world, in_flight) = (Arc::clone(&self.world), Arc::clone(&self.in_flight));
        if fate < 80 || arrives_all_the_same && fate < 95 {
            self.tasks.spawn(work(messages.clone(), world, in_flight));
        }
        let confirm = async {
            match fate {
                0..80 => tokio::time::sleep(delay).await,
                80..95 => std::future::pending().await,
                _ => {}
            }
        };
        if timeout(limit, confirm).await.is_err() {
            let mut world = self.world.lock();
            let away = world.up_to_ms(2_000);
            world.up_at = Instant::now() + away;
            return Err(PublishError::TimedOut);
        }
        if fate >= 95 {
            return Err(PublishError::Nacked);
        }
        self.world.lock().confirmed.extend(messages.iter().map(|message| message.msg_id.as_str().to_owned()));
        Ok(())
    }
}

/// A worker decides about a batch, before or after its confirm. Some of its events are lost.
async fn work(messages: Vec<Numbered>, world: Shared, in_flight: Arc<InFlight>) {
    let delay = {
        let mut world = world.lock();
        match world.chance(20) {
            true => world.up_to_ms(6_000),
            false => world.up_to_ms(600),
        }
    };
    tokio::time::sleep(delay).await;
    for message in messages {
        let Message { conversation, sender, msg_id, .. } = &message.message;
        let mut world = world.lock();
        // A message that was sent several times is decided once.
        let first = world.decided.insert(msg_id.as_str().to_owned());
        let second_answer = match world.random.random_range(0..100) {
            0..70 => {
                if message.reply_when_stored {
                    in_flight.stored(conversation, sender.as_str(), msg_id.as_str(), message.seq);
                }
                None
            }
            70..80 if first => {
                let seq = Seq(message.seq.0 + 1_000);
                world.seqs.retain(|(id, _)| id != msg_id.as_str());
                world.seqs.push((msg_id.as_str().to_owned(), seq));
                in_flight.renumbered(conversation, sender.as_str(), msg_id.as_str(), seq);
                Some(reply::chat(msg_id, &ConversationName::of_group(conversation), seq))
            }
            80..90 if first => {
                let refusal = ApiError::Forbidden("not a member".to_owned());
                let frame = refusal.frame_about(
                    Cmd::CHAT,
                    Some(msg_id.as_str()),
                    &ConversationName::of_group(conversation),
                );
                in_flight.refused(conversation, sender.as_str(), msg_id.as_str(), refusal);
                Some(frame)
            }
            _ => None,
        };
        if let Some(frame) = second_answer {
            tell_sender(&mut world, msg_id.as_str(), &frame);
        }
    }
}

/// Sends a second answer to all connections of the sender, as the fanout does.
fn tell_sender(world: &mut World, id: &str, frame: &Utf8Bytes) {
    for request in world.requests.iter_mut().filter(|request| request.id == id) {
        request.outbox.notify(frame.clone());
        request.second_answers.push(frame.to_string());
    }
}

/// Records the frames of a connection with their times.
async fn read(world: Shared, number: usize, outbox: Arc<Outbox>) {
    loop {
        let frame = poll_fn(|cx| {
            outbox.watch(cx);
            outbox.pop().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        world.lock().requests[number].frames.push((Instant::now(), frame.to_string()));
    }
}

fn admit(world: &Shared, number: usize, places: &Arc<Semaphore>) -> Admitted {
    let mut state = world.lock();
    let outbox = Outbox::for_test();
    // Some are retries of an earlier message, from another connection.
    let again = if state.chance(15) { number.checked_sub(1) } else { None };
    let id = again.map_or_else(|| format!("m{number}"), |n| state.requests[n].id.clone());
    let stored = state.chance(40);
    let (conversation, msg_id) = (Conversation::from_key("group_1").unwrap(), MsgId::parse(&id).unwrap());
    let message_id = MessageId::parse(conversation.clone(), "alice", &id).unwrap();
    let reply = PendingReply::new(outbox.reserve(), message_id, Instant::now() + DEADLINE);
    state.requests.push(Request {
        id,
        stored,
        sent_at: Instant::now(),
        outbox: Arc::clone(&outbox),
        frames: Vec::new(),
        second_answers: Vec::new(),
        connection_ended: false,
    });
    drop(state);
    tokio::spawn(read(Arc::clone(world), number, outbox));
    Admitted {
        message: with_kind(numbered(conversation.key(), 0, "alice", msg_id.as_str()), text(&"x".repeat(100)))
            .message,
        origin: ConnectionId { gateway: 1, connection: number as u64 },
        reply_when_stored: stored,
        may_be_retry: true,
        reply,
        permit: Arc::clone(places).try_acquire_owned().unwrap(),
    }
}

/// One run: messages come for some seconds, then the queue is closed, or the pipeline's task ends in the middle.
async fn run(seed: u64) -> Shared {
    let mut random = StdRng::seed_from_u64(seed);
    let ends_early = random.random_ratio(20, 100);
    let limits = Limits { batch_messages_max: 8, batch_bytes_max: 1_000, ..Limits::default() };
    let world = Arc::new(Mutex::new(World {
        random,
        requests: Vec::new(),
        seqs: Vec::new(),
        last_seq: 0,
        up_at: Instant::now(),
        confirmed: HashSet::new(),
        decided: HashSet::new(),
    }));
    let (in_flight, tasks) = (Arc::new(InFlight::new()), Shutdown::new());
    let (sender, queue) = mpsc::channel(MESSAGES);
    let broker =
        FakeBroker { world: Arc::clone(&world), in_flight: Arc::clone(&in_flight), tasks: tasks.clone() };
    let context = PipelineContext::new(&limits, Arc::clone(&in_flight));
    let numbering = FakeNumbering(Arc::clone(&world));
    let gate = Arc::clone(context.gate());
    gate.open();
    let pipeline = Pipeline::new(ShardId(0), queue, numbering, broker, context);
    let pipeline = tokio::spawn(pipeline.run(watch::channel(false).1));
    let deadlines = tokio::spawn(Arc::clone(&in_flight).keep_deadlines(tasks.clone()));
    let places = Arc::new(Semaphore::new(MESSAGES));
    for number in 0..MESSAGES {
        let pause = {
            let mut state = world.lock();
            if state.chance(70) { Duration::ZERO } else { state.up_to_ms(500) }
        };
        tokio::time::sleep(pause).await;
        gate.looked(true);
        sender.try_send(admit(&world, number, &places)).unwrap();
        let mut state = world.lock();
        if state.chance(10) {
            let gone = state.random.random_range(0..=number);
            state.requests[gone].connection_ended = true;
            state.requests[gone].outbox.end();
        }
    }
    drop(sender);
    if ends_early {
        pipeline.abort();
    } else {
        pipeline.await.unwrap();
    }
    // Longer than the last deadline, and than the last event of a worker.
    tokio::time::sleep(3 * DEADLINE).await;
    deadlines.abort();
    tasks.finish(3 * DEADLINE).await;
    drop(in_flight);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(places.available_permits(), MESSAGES, "places are given back");
    world
}

fn check(world: &World) -> Result<(), String> {
    for request in &world.requests {
        let Request { id, stored, frames, second_answers, .. } = request;
        let fault =
            |what: &str| Err(format!("{id} (stored: {stored}): {what}: {frames:?} {second_answers:?}"));
        if request.outbox.owes_replies() {
            return fault("a reply is owed");
        }
        if request.connection_ended {
            continue;
        }
        if frames.len() != 1 + second_answers.len() {
            return fault("not exactly one reply beside the second answers");
        }
        let mut replies: Vec<_> = frames.iter().collect();
        for answer in second_answers {
            let at = replies.iter().position(|(_, frame)| frame == answer);
            match at {
                Some(at) => _ = replies.remove(at),
                None => return fault("a second answer is missing"),
            }
        }
        let (replied_at, reply) = replies[0];
        if *replied_at > request.sent_at + DEADLINE + EXPIRE_INTERVAL + TIMER {
            return fault("late");
        }
        let accepted = reply.contains(r#""code":0"#);
        if accepted && *stored && !world.decided.contains(id) {
            return fault("reported as stored, but is not");
        }
        if accepted && !world.confirmed.contains(id) && !world.decided.contains(id) {
            return fault("reported as accepted, but is not");
        }
        // The last answer is the final one, unless it asks for a retry.
        if let (Some(last), Some((_, told))) = (second_answers.last(), frames.last())
            && told != last
            && !told.contains(r#""code":503"#)
            && world.requests.iter().filter(|other| other.id == *id).count() == 1
        {
            return fault("the last answer is not the final one");
        }
    }
    Ok(())
}

#[test]
fn every_message_gets_exactly_one_reply_in_time() {
    let (mut accepted, mut refused, mut second) = (0, 0, 0);
    for seed in 0..200 {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let world = runtime.block_on(run(seed));
        let world = world.lock();
        check(&world).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        for (_, frame) in world.requests.iter().flat_map(|request| &request.frames) {
            accepted += usize::from(frame.contains(r#""code":0"#));
            refused += usize::from(frame.contains(r#""code":503"#));
        }
        second += world.requests.iter().map(|request| request.second_answers.len()).sum::<usize>();
    }
    // The seeds reach every kind of reply.
    assert!(accepted > 3_000 && refused > 1_000 && second > 500, "{accepted} {refused} {second}");
}

//! A chat on the command line: prints what comes, sends what is typed, and remembers both in a file.
//!
//! `cargo run -p im-client --example chat -- URL USER CONVERSATION [FILE]`

use std::collections::HashSet;

use im_client::{Client, Delivery, Event, FileStore, StoreError};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), StoreError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(user), Some(id)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: chat URL USER CONVERSATION [FILE]".into());
    };
    let file = arguments.next().unwrap_or(format!("{user}.redb"));
    let (client, mut events) =
        Client::builder(url).user(user).store(FileStore::open(file)?).connect().await?;
    let conversation = client.conversation(id);
    let mut lines = lines();
    let (mut is_typing, mut unsent) = (true, HashSet::new());
    loop {
        tokio::select! {
            line = lines.recv(), if is_typing => match line {
                Some(line) if line.is_empty() => {}
                Some(line) => drop(unsent.insert(conversation.send(line).await?.msg_id().to_owned())),
                None => is_typing = false,
            },
            event = events.next() => match event {
                Some(Event::Message(one)) => {
                    println!("{} {}: {}", one.message.seq, one.message.sender_id, one.message.content);
                }
                Some(Event::Sent(one)) => match one.delivery {
                    Delivery::Stored { .. } => drop(unsent.remove(&one.msg_id)),
                    Delivery::Failed(refusal) => {
                        println!("not sent: {refusal}");
                        unsent.remove(&one.msg_id);
                        conversation.discard(one.msg_id).await?;
                    }
                    Delivery::Sending | Delivery::Accepted { .. } => {}
                },
                Some(Event::Connection(state)) => eprintln!("{state:?}"),
                Some(_) => {}
                None => return Ok(()),
            },
        }
        // After the last line it waits until everything is stored.
        if !is_typing && unsent.is_empty() {
            client.stop().await;
            return Ok(());
        }
    }
}

/// Lines of standard input, until its end.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

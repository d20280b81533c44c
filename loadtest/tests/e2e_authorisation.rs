//! Random users, groups, roles, mutes, blocks and settings over two gateways, against a model of the rules: every answer must be
//! the one that the model gives, on whichever gateway it is asked for.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use testbed::client::{Chat, Client, Http};
use testbed::stack::{Builder, System};

const USERS: [&str; 7] = ["ann", "bob", "cid", "dan", "eve", "fay", "gus"];
const GROUPS: [&str; 3] = ["group_a", "group_b", "group_c"];
const STEPS: usize = 350;
const FOREVER: i64 = 4_000_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Member,
    Admin,
    Owner,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Member {
    role: Role,
    is_muted: bool,
}

type User = &'static str;

#[derive(Debug, Default)]
struct Group {
    members: BTreeMap<User, Member>,
    /// Muted when they went.
    muted_former: BTreeSet<User>,
    /// By the one who invited.
    invited: BTreeMap<User, User>,
    is_muted: bool,
    is_dismissed: bool,
}

#[derive(Debug, Default)]
struct Model {
    groups: BTreeMap<&'static str, Group>,
    /// Who has blocked whom.
    blocks: BTreeSet<(User, User)>,
    /// Who has written to whom.
    wrote: BTreeSet<(User, User)>,
    adds: BTreeMap<User, &'static str>,
}

/// The status that the model gives: 200 is code 0 in a frame.
type Status = u16;

impl Model {
    fn live(&mut self, group: &str) -> Result<&mut Group, Status> {
        self.groups.get_mut(group).filter(|group| !group.is_dismissed).ok_or(404)
    }

    fn member(&mut self, group: &str, user: User) -> Result<Member, Status> {
        self.live(group)?.members.get(user).copied().ok_or(403)
    }

    fn require(&mut self, group: &str, user: User, least: Role) -> Result<Member, Status> {
        self.member(group, user).and_then(|member| if member.role >= least { Ok(member) } else { Err(403) })
    }

    /// Who of `users` is added by `by`, and who is invited.
    fn consenting(&self, by: User, users: &[User]) -> Result<(Vec<User>, Vec<User>), Status> {
        if users.iter().any(|user| self.blocks.contains(&(*user, by))) {
            return Err(403);
        }
        let may_add = |user: &User| match self.adds.get(user).copied() {
            None | Some("everyone") => true,
            Some("contacts") => *user == by || self.wrote.contains(&(*user, by)),
            Some(_) => *user == by,
        };
        Ok(users.iter().copied().partition(may_add))
    }

    fn create(&mut self, group: &'static str, by: User, others: &[User]) -> Result<Vec<User>, Status> {
        if self.groups.contains_key(group) {
            return Err(409);
        }
        let (added, invited) = self.consenting(by, others)?;
        let mut new = Group::default();
        new.join(added);
        new.members.insert(by, Member { role: Role::Owner, is_muted: false });
        let told = new.invite(by, invited.into_iter().filter(|user| *user != by).collect());
        self.groups.insert(group, new);
        Ok(told)
    }

    fn add(&mut self, group: &str, by: User, users: &[User]) -> Result<Vec<User>, Status> {
        self.require(group, by, Role::Admin)?;
        let members = &self.live(group)?.members;
        let others: Vec<User> = users.iter().copied().filter(|user| !members.contains_key(user)).collect();
        let (added, invited) = self.consenting(by, &others)?;
        let group = self.live(group)?;
        group.join(added);
        Ok(group.invite(by, invited))
    }

    fn remove(&mut self, group: &str, by: User, user: User) -> Result<(), Status> {
        let caller = self.member(group, by)?;
        let target = self.live(group)?.members.get(user).copied().ok_or(404_u16)?;
        let allowed = if by == user { target.role != Role::Owner } else { caller.role > target.role };
        if !allowed {
            return Err(403);
        }
        let group = self.live(group)?;
        group.members.remove(user);
        if target.is_muted {
            group.muted_former.insert(user);
        }
        Ok(())
    }

    fn set_role(&mut self, group: &str, by: User, user: User, role: Role) -> Result<(), Status> {
        let caller = self.member(group, by)?;
        let target = self.live(group)?.members.get(user).copied().ok_or(404_u16)?;
        if target.role == role {
            return Ok(());
        }
        if caller.role != Role::Owner || target.role == Role::Owner {
            return Err(403);
        }
        let members = &mut self.live(group)?.members;
        if role == Role::Owner {
            members
                .values_mut()
                .filter(|member| member.role == Role::Owner)
                .for_each(|m| m.role = Role::Admin);
        }
        let is_muted = target.is_muted && role != Role::Owner;
        members.insert(user, Member { role, is_muted });
        Ok(())
    }

    fn mute(&mut self, group: &str, by: User, user: User, is_muted: bool) -> Result<(), Status> {
        let caller = self.member(group, by)?;
        let members = &mut self.live(group)?.members;
        let target = members.get_mut(user).ok_or(404_u16)?;
        if caller.role <= target.role {
            return Err(403);
        }
        target.is_muted = is_muted;
        Ok(())
    }

    fn send(&mut self, group: &str, by: User) -> Result<(), Status> {
        let member = self.member(group, by)?;
        let is_muted = member.is_muted || self.live(group)?.is_muted && member.role == Role::Member;
        if is_muted { Err(403) } else { Ok(()) }
    }

    fn accept(&mut self, group: &str, user: User) -> Result<(), Status> {
        let found = self.live(group)?;
        let by = *found.invited.get(user).ok_or(404_u16)?;
        if found.members.get(by).is_none_or(|member| member.role < Role::Admin) {
            return Err(404);
        }
        found.join(vec![user]);
        Ok(())
    }

    fn block(&mut self, by: User, user: User) {
        self.blocks.insert((by, user));
        for group in self.groups.values_mut() {
            group.invited.retain(|invited, inviter| (*invited, *inviter) != (by, user));
        }
    }

    fn knows(&self, reader: User, other: User) -> bool {
        let together = self.groups.values().any(|group| {
            !group.is_dismissed && group.members.contains_key(reader) && group.members.contains_key(other)
        });
        (together || self.wrote.contains(&(other, reader))) && !self.blocks.contains(&(other, reader))
    }
}

impl Group {
    fn join(&mut self, users: Vec<User>) {
        for user in users {
            self.invited.remove(user);
            let is_muted = self.muted_former.remove(user);
            self.members.insert(user, Member { role: Role::Member, is_muted });
        }
    }

    /// Returns those who were not invited before.
    fn invite(&mut self, by: User, users: Vec<User>) -> Vec<User> {
        let new: Vec<User> = users.into_iter().filter(|user| !self.invited.contains_key(user)).collect();
        self.invited.extend(new.iter().map(|user| (*user, by)));
        new
    }
}

struct Play {
    http: BTreeMap<(User, usize), Http>,
    clients: BTreeMap<(User, usize), Client>,
    random: StdRng,
    model: Model,
    sent: usize,
}

fn status<T>(expected: &Result<T, Status>) -> Status {
    expected.as_ref().err().copied().unwrap_or(200)
}

impl Play {
    async fn new(system: &System, seed: u64) -> Self {
        let (mut http, mut clients) = (BTreeMap::new(), BTreeMap::new());
        for user in USERS {
            for gateway in 0..2 {
                http.insert((user, gateway), Http::of_user(&system.http_urls()[gateway], user));
                let mut client = Client::connect(&system.ws_urls()[gateway], user).await.unwrap();
                client.request(0, r#"{"cmd":0}"#).await.unwrap();
                clients.insert((user, gateway), client);
            }
        }
        Self { http, clients, random: StdRng::seed_from_u64(seed), model: Model::default(), sent: 0 }
    }

    fn user(&mut self) -> User {
        USERS[self.random.random_range(0..USERS.len())]
    }

    fn group(&mut self) -> &'static str {
        GROUPS[self.random.random_range(0..GROUPS.len())]
    }

    fn some_users(&mut self) -> Vec<User> {
        let count = self.random.random_range(1..4);
        (0..count).map(|_| self.user()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    async fn call(&mut self, by: User, method: &str, path: &str, body: Option<Value>) -> (Status, Value) {
        let gateway = self.random.random_range(0..2);
        self.http[&(by, gateway)].call(method, path, body.as_ref()).await.unwrap()
    }

    /// One step. Returns what was asked, the expected and the given answer.
    async fn step(&mut self) -> (String, Value, Value) {
        let (by, group, other) = (self.user(), self.group(), self.user());
        match self.random.random_range(0..100) {
            0..8 => self.create(by, group).await,
            8..22 => self.add(by, group).await,
            22..30 => {
                let expected = self.model.remove(group, by, other);
                let path = format!("/api/groups/{group}/members/{other}");
                let got = self.call(by, "DELETE", &path, None).await.0;
                (format!("{by} removes {other} from {group}"), json!(status(&expected)), json!(got))
            }
            30..38 => {
                let role = [Role::Member, Role::Admin, Role::Owner][self.random.random_range(0..3)];
                let expected = self.model.set_role(group, by, other, role);
                let path = format!("/api/groups/{group}/members/{other}");
                let got = self.call(by, "PATCH", &path, Some(json!({"role": role.name()}))).await.0;
                (format!("{by} makes {other} {role:?} of {group}"), json!(status(&expected)), json!(got))
            }
            38..44 => {
                let is_muted = self.random.random_bool(0.6);
                let expected = self.model.mute(group, by, other, is_muted);
                let path = format!("/api/groups/{group}/members/{other}");
                let body = json!({"muted_until": if is_muted { FOREVER } else { 0 }});
                let got = self.call(by, "PATCH", &path, Some(body)).await.0;
                (format!("{by} mutes {other} in {group}: {is_muted}"), json!(status(&expected)), json!(got))
            }
            44..47 => {
                let is_muted = self.random.random_bool(0.4);
                let expected = self.model.require(group, by, Role::Admin);
                if expected.is_ok() {
                    self.model.live(group).unwrap().is_muted = is_muted;
                }
                let path = format!("/api/groups/{group}");
                let got = self.call(by, "PATCH", &path, Some(json!({"muted": is_muted}))).await.0;
                (format!("{by} mutes {group}: {is_muted}"), json!(status(&expected)), json!(got))
            }
            47..48 => {
                let expected = self.model.require(group, by, Role::Owner);
                if expected.is_ok() {
                    let dismissed = self.model.live(group).unwrap();
                    dismissed.is_dismissed = true;
                    dismissed.members.clear();
                }
                let got = self.call(by, "DELETE", &format!("/api/groups/{group}"), None).await.0;
                (format!("{by} dismisses {group}"), json!(status(&expected)), json!(got))
            }
            48..54 if by != other => self.block(by, other).await,
            54..58 => {
                let adds = ["everyone", "contacts", "nobody"][self.random.random_range(0..3)];
                self.model.adds.insert(by, adds);
                let got = self.call(by, "PATCH", "/api/settings", Some(json!({"group_adds": adds}))).await.0;
                (format!("{by} may be added by {adds}"), json!(200), json!(got))
            }
            58..63 => {
                let expected = self.model.accept(group, by);
                let got = self.call(by, "POST", &format!("/api/invitations/{group}"), None).await.0;
                (format!("{by} accepts {group}"), json!(status(&expected)), json!(got))
            }
            63..78 => self.send(by, group).await,
            78..84 => {
                let expected = self.model.member(group, by);
                let gateway = self.random.random_range(0..2);
                let client = self.clients.get_mut(&(by, gateway)).unwrap();
                let code = client.pull(group, 0, 1).await.unwrap().code;
                (
                    format!("{by} pulls {group}"),
                    json!(status(&expected)),
                    json!(if code == 0 { 200 } else { code }),
                )
            }
            84..90 => self.positions(by, group).await,
            _ => self.presence(by).await,
        }
    }

    async fn create(&mut self, by: User, group: &'static str) -> (String, Value, Value) {
        let members = self.some_users();
        let expected = self.model.create(group, by, &members);
        let body = json!({"conversation_id": group, "members": members});
        let (got, answer) = self.call(by, "POST", "/api/groups", Some(body)).await;
        let told = format!("{by} creates {group} with {members:?}");
        (told, answer_of(&expected), json!([got, invited_in(&answer)]))
    }

    async fn add(&mut self, by: User, group: &'static str) -> (String, Value, Value) {
        let users = self.some_users();
        let expected = self.model.add(group, by, &users);
        let path = format!("/api/groups/{group}/members");
        let (got, answer) = self.call(by, "POST", &path, Some(json!({"user_ids": users}))).await;
        let told = format!("{by} adds {users:?} to {group}");
        (told, answer_of(&expected), json!([got, invited_in(&answer)]))
    }

    async fn block(&mut self, by: User, other: User) -> (String, Value, Value) {
        if self.model.blocks.remove(&(by, other)) {
            let got = self.call(by, "DELETE", &format!("/api/blocks/{other}"), None).await.0;
            return (format!("{by} unblocks {other}"), json!(200), json!(got));
        }
        self.model.block(by, other);
        let got = self.call(by, "POST", "/api/blocks", Some(json!({"user_id": other}))).await.0;
        (format!("{by} blocks {other}"), json!(200), json!(got))
    }

    /// To a group, or to a user, whom half of the messages name by `to`.
    async fn send(&mut self, by: User, group: &'static str) -> (String, Value, Value) {
        let (gateway, other) = (self.random.random_range(0..2), self.user());
        let (is_private, by_name) = (self.random.random_bool(0.5), self.random.random_bool(0.5));
        self.sent += 1;
        let msg_id = format!("m{}", self.sent);
        let expected = if !is_private {
            self.model.send(group, by)
        } else if self.model.blocks.contains(&(other, by)) {
            Err(403)
        } else {
            self.model.wrote.insert((by, other));
            Ok(())
        };
        let client = self.clients.get_mut(&(by, gateway)).unwrap();
        let conversation = if is_private { format!("private_{by}_{other}") } else { group.to_owned() };
        let code = if is_private && by_name {
            let payload = json!({"content": "x", "ack": "stored"});
            let frame = json!({"cmd": 2, "msg_id": msg_id, "to": other, "payload": payload}).to_string();
            client.send(frame).await.unwrap();
            client
                .wait_for(|packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(&msg_id))
                .await
                .unwrap()
                .code
        } else {
            let chat =
                Chat { conversation: conversation.clone(), msg_id, content: "x".to_owned(), stored: true };
            client.chat(&chat).await.unwrap().code
        };
        let got = if code == 0 { 200 } else { code };
        (format!("{by} sends to {conversation} by gateway {gateway}"), json!(status(&expected)), json!(got))
    }

    async fn positions(&mut self, by: User, group: &'static str) -> (String, Value, Value) {
        let expected = self.model.member(group, by);
        let (got, answer) =
            self.call(by, "GET", &format!("/api/conversations/{group}/positions"), None).await;
        let listed = ids(&answer["positions"]);
        let visible: Vec<User> = match &expected {
            Ok(_) => {
                let members = self.model.live(group).unwrap().members.keys().copied().collect::<Vec<_>>();
                members.into_iter().filter(|user| !self.model.blocks.contains(&(*user, by))).collect()
            }
            Err(_) => Vec::new(),
        };
        let told = format!("{by} asks for positions in {group}");
        (told, json!([status(&expected), visible]), json!([got, listed]))
    }

    async fn presence(&mut self, by: User) -> (String, Value, Value) {
        let others: Vec<User> = USERS.into_iter().filter(|user| *user != by).collect();
        let known: Vec<User> = others.iter().copied().filter(|other| self.model.knows(by, other)).collect();
        let body = Some(json!({"user_ids": others}));
        let (got, answer) = self.call(by, "POST", "/api/presence", body).await;
        (format!("{by} asks for presence"), json!([200, known]), json!([got, ids(&answer["users"])]))
    }
}

fn ids(list: &Value) -> Vec<String> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().map(|entry| entry["user_id"].as_str().unwrap().to_owned()).collect()
}

fn answer_of(expected: &Result<Vec<User>, Status>) -> Value {
    match expected {
        Ok(invited) => json!([200, invited.iter().collect::<BTreeSet<_>>()]),
        Err(status) => json!([status, []]),
    }
}

fn invited_in(answer: &Value) -> BTreeSet<String> {
    let invited = answer["invited"].as_array().cloned().unwrap_or_default();
    invited.iter().map(|user| user.as_str().unwrap().to_owned()).collect()
}

async fn play(system: System, seed: u64) {
    let mut play = Play::new(&system, seed).await;
    let (mut log, mut refused) = (Vec::new(), 0);
    for step in 0..STEPS {
        let (told, expected, got) = play.step().await;
        log.push(format!("{step}: {told}: {got}"));
        refused += usize::from(!expected.to_string().contains("200"));
        assert_eq!(got, expected, "seed {seed}\n{}", log.join("\n"));
    }
    // The seed reaches both answers often.
    assert!(refused > STEPS / 10 && refused < STEPS * 3 / 4, "{refused} of {STEPS} were refused");
}

fn builder() -> Builder {
    Builder::new().unlimited().set("IM__GROUPS__AUTO_CREATE", "false")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_the_one_of_the_model() {
    play(builder().for_test().await.unwrap(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_the_one_of_the_model_in_large_groups() {
    play(builder().set("IM__GROUPS__LARGE_ABOVE", 4).for_test().await.unwrap(), 2).await;
}

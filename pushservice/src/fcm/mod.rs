//! Firebase Cloud Messaging, HTTP v1: <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>.

mod access_token;
mod account;
mod errors;
mod payload;
mod sender;

pub(crate) use sender::FcmSender;

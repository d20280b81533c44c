//! Push services for tests: local servers that check what they are sent as the real ones do, and record what each device
//! received. They are written from the RFCs and the services' documentation, without the code of the sender.

mod answer;
mod apns;
mod arrivals;
mod device_keys;
mod fcm;
mod fcm_account;
mod server;
mod vapid;
mod web_push;

pub use answer::Answer;
pub use apns::{ApnsPush, ApnsService};
pub use device_keys::DeviceKeys;
pub use fcm::FcmService;
pub use web_push::{Delivered, PushDevice, WebPushService};

//! What an error of FCM means: <https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>.

use std::time::Duration;

use serde::Deserialize;

use crate::outcome::Outcome;
use crate::response::Response;

/// Delay after a 429 without `Retry-After`, as FCM's documentation asks.
const QUOTA_DELAY: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    error: Error,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Error {
    message: String,
    details: Vec<Detail>,
}

/// `google.firebase.fcm.v1.FcmError` has a code, `google.rpc.BadRequest` has violations.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    error_code: String,
    field_violations: Vec<Violation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Violation {
    field: String,
}

impl Error {
    fn code(&self) -> &str {
        let codes = self.details.iter().map(|detail| detail.error_code.as_str());
        codes.into_iter().find(|code| !code.is_empty()).unwrap_or_default()
    }

    /// The fields that are wrong.
    fn fields(&self) -> impl Iterator<Item = &str> {
        self.details
            .iter()
            .flat_map(|detail| &detail.field_violations)
            .map(|violation| violation.field.as_str())
    }

    /// `INVALID_ARGUMENT` is about the registration token or about the message. FCM names the token in a violation or, without
    /// violations, in the sentence.
    fn is_about_token(&self) -> bool {
        let mut fields = self.fields().peekable();
        if fields.peek().is_some() {
            return fields.all(|field| field == "message.token");
        }
        self.message.contains("registration token")
    }
}

/// Whether FCM did not accept the access token.
pub(super) fn is_token_refused(response: &Response) -> bool {
    response.status.as_u16() == 401 && error_of(response).code() != "THIRD_PARTY_AUTH_ERROR"
}

/// The outcome of a response.
pub(super) fn outcome(response: &Response) -> Outcome {
    let status = response.status.as_u16();
    if response.status.is_success() {
        return Outcome::Accepted;
    }
    let error = error_of(response);
    let reason = reason(response, &error);
    match (status, error.code()) {
        (_, "UNREGISTERED") => Outcome::Gone(reason),
        (400, "INVALID_ARGUMENT") if error.is_about_token() => Outcome::Gone(reason),
        (429, _) => Outcome::Retry { after: response.retry_after.or(Some(QUOTA_DELAY)), reason },
        (408 | 500..=599, _) => Outcome::Retry { after: response.retry_after, reason },
        // Not the device's fault: with the right account, its token is valid again.
        (403, "SENDER_ID_MISMATCH") => Outcome::Rejected(format!(
            "{reason}: the device registered with another project than the one of push.fcm_service_account_file"
        )),
        (401, "THIRD_PARTY_AUTH_ERROR") => Outcome::Rejected(format!(
            "{reason}: FCM has no valid key of APNs or of Web Push; check the project's settings in the console of Firebase"
        )),
        (401, _) => Outcome::Rejected(format!(
            "{reason}: FCM does not accept the access token; check push.fcm_service_account_file"
        )),
        (403, _) => Outcome::Rejected(format!(
            "{reason}: the account of push.fcm_service_account_file may not send; give it the role Firebase Cloud Messaging API \
             Admin, and enable the API in the project"
        )),
        // A 404 that is not about a device: it must not remove subscriptions.
        (404, _) => Outcome::Rejected(format!(
            "{reason}: FCM does not know the project of push.fcm_service_account_file, or push.fcm_url is not FCM"
        )),
        _ => Outcome::Rejected(reason),
    }
}

/// Status, code, sentence and fields of an error; the beginning of a body that is not FCM's.
fn reason(response: &Response, error: &Error) -> String {
    if error.message.is_empty() {
        return response.reason();
    }
    let status = response.status.as_u16().to_string();
    let parts = ["status", &status, error.code(), &error.message].into_iter().chain(error.fields());
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn error_of(response: &Response) -> Error {
    serde_json::from_slice::<Body>(&response.body).unwrap_or_default().error
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    fn body(message: &str, code: &str, field: Option<&str>) -> Value {
        let mut details =
            vec![json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})];
        details.extend(field.map(|field| {
            json!({"@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": field, "description": "Invalid"}]})
        }));
        json!({"error": {"code": 400, "message": message, "status": "X", "details": details}})
    }

    #[test]
    fn each_error_has_its_outcome() {
        let no_token = "The registration token is not a valid FCM registration token";
        let not_found = "Requested entity was not found.";
        for (status, body, label, text) in [
            (200, json!({"name": "projects/p/messages/1"}), "accepted", ""),
            (404, body(not_found, "UNREGISTERED", None), "gone", "UNREGISTERED"),
            (404, json!({"error": {"code": 404, "message": not_found}}), "rejected", "project"),
            (404, json!("<html>"), "rejected", "push.fcm_url"),
            (400, body(no_token, "INVALID_ARGUMENT", None), "gone", "registration token"),
            (400, body("x", "INVALID_ARGUMENT", Some("message.token")), "gone", "message.token"),
            (400, body("x", "INVALID_ARGUMENT", Some("message.data[0].value")), "rejected", "data[0]"),
            (400, body("Message too big", "INVALID_ARGUMENT", None), "rejected", "too big"),
            (401, body("x", "THIRD_PARTY_AUTH_ERROR", None), "rejected", "console of Firebase"),
            (401, json!({}), "rejected", "push.fcm_service_account_file"),
            (403, body("x", "SENDER_ID_MISMATCH", None), "rejected", "another project"),
            (403, json!({}), "rejected", "role"),
            (429, body("x", "QUOTA_EXCEEDED", None), "retry", "QUOTA_EXCEEDED"),
            (500, body("x", "INTERNAL", None), "retry", "INTERNAL"),
            (502, json!("<html>"), "retry", "502"),
            (503, body("x", "UNAVAILABLE", None), "retry", "UNAVAILABLE"),
        ] {
            let response = Response {
                status: StatusCode::from_u16(status).unwrap(),
                retry_after: None,
                body: body.to_string().into_bytes(),
            };
            let outcome = outcome(&response);
            assert_eq!(outcome.label(), label, "{status} {body}");
            match outcome {
                Outcome::Accepted => {}
                Outcome::Retry { after, reason } => {
                    assert_eq!(after, (status == 429).then_some(QUOTA_DELAY));
                    assert!(reason.contains(text), "{reason}");
                }
                Outcome::Gone(reason) | Outcome::Rejected(reason) => {
                    assert!(reason.contains(text), "{text}: {reason}");
                }
            }
        }
    }

    #[test]
    fn retry_after_is_kept() {
        let after = Some(Duration::from_secs(3));
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
            let response = Response { status, retry_after: after, body: Vec::new() };
            assert!(matches!(outcome(&response), Outcome::Retry { after: given, .. } if given == after));
        }
    }
}

//! Reads pages of conversations for pulls. [`reader`] puts three layers together, in this order:
//!
//! 1. [`single_flight`] merges identical requests that arrive at the same time.
//! 2. [`page_cache`] serves a page that several clients requested, after revalidation of the conversation's `last_seq`.
//! 3. [`page_query`] reads the page from MySQL and renders it.
//!
//! No layer makes a page older: what is returned was true at some moment after the request.

mod page_cache;
mod page_key;
mod page_query;
mod reader;
mod single_flight;

pub(super) use page_key::PageKey;
pub(super) use reader::PageReader;

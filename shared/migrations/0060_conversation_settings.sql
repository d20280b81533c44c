-- How a user has set a conversation up for itself, and up to where it has cleared it.
ALTER TABLE user_conversation_state
    ADD COLUMN muted_until BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970: no notifications until then; -1 for ever',
    ADD COLUMN is_pinned BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN is_archived BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN is_marked_unread BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN draft VARCHAR(4096) NULL,
    ADD COLUMN cleared_seq BIGINT UNSIGNED NULL COMMENT 'nothing at or below is shown to the user; NULL: it has cleared nothing';

-- Notifications that wait to be sent, and those that devices show: at most one for each user and conversation.
CREATE TABLE notification (
    user_id VARCHAR(64) NOT NULL,
    conversation_id VARCHAR(160) NOT NULL,
    shard SMALLINT UNSIGNED NOT NULL COMMENT 'of the change feed: its reader sends the notification',
    last_seq BIGINT UNSIGNED NOT NULL COMMENT 'the newest entry that calls for a notification, or changes the one that is shown',
    mention_seq BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the newest message that mentions the user',
    since_ms BIGINT NOT NULL COMMENT 'ms since 1970: when the oldest message was stored that no notification shows',
    due_at BIGINT NOT NULL COMMENT 'ms since 1970: when it is looked at next',
    shown_seq BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the last_seq that devices show',
    sending_seq BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the last_seq that was given to a push service, perhaps in vain',
    shown_at BIGINT NOT NULL DEFAULT 0 COMMENT 'ms since 1970',
    looks TINYINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'how often it was looked at in vain',
    is_withdrawn BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'devices are told to remove it',
    pending VARCHAR(1024) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'subscriptions that have not got it, with blanks between',
    version BIGINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'raised by each change',
    PRIMARY KEY (user_id, conversation_id),
    KEY by_due (shard, due_at),
    KEY by_conversation (conversation_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

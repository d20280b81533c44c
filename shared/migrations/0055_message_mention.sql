-- Which messages mention a user who was a member when they were stored; user '*': all members of that time.
CREATE TABLE message_mention (
    conversation_id VARCHAR(160) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the message',
    PRIMARY KEY (conversation_id, user_id, seq),
    KEY by_message (conversation_id, seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

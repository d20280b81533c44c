-- Pinned messages, at most 50 per conversation.
CREATE TABLE message_pin (
    conversation_id VARCHAR(160) NOT NULL,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the message',
    pin_seq BIGINT UNSIGNED NOT NULL COMMENT 'the entry that pinned it',
    PRIMARY KEY (conversation_id, seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

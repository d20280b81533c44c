CREATE TABLE user_conversation_state (
    user_id VARCHAR(64) NOT NULL,
    conversation_id VARCHAR(160) NOT NULL,
    last_ack_seq BIGINT UNSIGNED NOT NULL COMMENT 'read up to here',
    updated_at BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (user_id, conversation_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

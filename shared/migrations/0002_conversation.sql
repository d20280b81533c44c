-- One row per conversation that holds a message; locked by whoever commits to it. 160 characters hold the longest key:
-- "private_", two user ids of 64 characters and the blank between them.
CREATE TABLE conversation (
    conversation_id VARCHAR(160) NOT NULL,
    kind TINYINT UNSIGNED NOT NULL COMMENT '1 private, 2 group',
    last_seq BIGINT UNSIGNED NOT NULL COMMENT 'every number up to this one is settled',
    updated_at BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (conversation_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

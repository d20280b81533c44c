-- Reactions and pins that changed nothing when their turn came, so that one that is delivered again does not act later.
CREATE TABLE unchanged_entry (
    conversation_id VARCHAR(160) NOT NULL,
    sender_id VARCHAR(64) NOT NULL,
    msg_id VARCHAR(64) NOT NULL,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the number that its sender was told',
    msg_type TINYINT UNSIGNED NOT NULL,
    content VARCHAR(32) NOT NULL,
    extra VARCHAR(128) NULL,
    settled_at BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (conversation_id, sender_id, msg_id),
    KEY by_age (settled_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

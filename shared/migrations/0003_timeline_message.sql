-- Clustered by conversation and number, so that a pull is one sequential read. An id is its sender's own.
CREATE TABLE timeline_message (
    conversation_id VARCHAR(160) NOT NULL,
    seq BIGINT UNSIGNED NOT NULL,
    msg_id VARCHAR(64) NOT NULL,
    sender_id VARCHAR(64) NOT NULL,
    content VARCHAR(4096) NOT NULL,
    msg_type TINYINT UNSIGNED NOT NULL COMMENT '1 text, 2 image',
    send_time BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (conversation_id, seq),
    UNIQUE KEY one_per_id (conversation_id, sender_id, msg_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

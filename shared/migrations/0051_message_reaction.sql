-- Reactions that stand. The number of the entry that added one gives the order.
CREATE TABLE message_reaction (
    conversation_id VARCHAR(160) NOT NULL,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the message',
    reaction VARCHAR(32) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    react_seq BIGINT UNSIGNED NOT NULL COMMENT 'the entry that added it',
    react_time BIGINT NOT NULL COMMENT 'ms since 1970, the send time of that entry',
    PRIMARY KEY (conversation_id, seq, reaction, user_id),
    KEY by_order (conversation_id, seq, react_seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

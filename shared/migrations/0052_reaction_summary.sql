-- What a page shows of reactions, so that a message with thousands of them costs what one with twenty costs.
CREATE TABLE reaction_summary (
    conversation_id VARCHAR(160) NOT NULL,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the message',
    reaction VARCHAR(32) NOT NULL,
    total INT UNSIGNED NOT NULL COMMENT 'users whose reaction stands',
    first_users VARCHAR(9216) NOT NULL COMMENT 'JSON: the first 20 of them with the numbers of their entries',
    PRIMARY KEY (conversation_id, seq, reaction)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

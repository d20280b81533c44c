-- Which conversations a user has cleared, so that a login need not look at all of its states.
CREATE TABLE cleared_conversation (
    user_id VARCHAR(64) NOT NULL,
    conversation_id VARCHAR(160) NOT NULL,
    PRIMARY KEY (user_id, conversation_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

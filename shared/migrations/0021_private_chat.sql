-- The private chats of each user: two rows per conversation, made with its first message.
CREATE TABLE private_chat (
    user_id VARCHAR(64) NOT NULL,
    conversation_id VARCHAR(160) NOT NULL,
    PRIMARY KEY (user_id, conversation_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

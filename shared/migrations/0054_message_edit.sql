-- The edit entries of a message, which are blanked when it is recalled.
CREATE TABLE message_edit (
    conversation_id VARCHAR(160) NOT NULL,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the message',
    edit_seq BIGINT UNSIGNED NOT NULL COMMENT 'the edit entry',
    PRIMARY KEY (conversation_id, seq, edit_seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Who takes no private messages from whom.
CREATE TABLE user_block (
    user_id VARCHAR(64) NOT NULL,
    blocked_id VARCHAR(64) NOT NULL,
    created_at BIGINT NOT NULL COMMENT 'ms since 1970',
    PRIMARY KEY (user_id, blocked_id),
    KEY blockers_of (blocked_id, user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
